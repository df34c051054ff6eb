import { describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { hostIdentity } from "../src/host.ts";

const ID = "3d1219c7c4c5404aaa1f6d2a48adfda4";
const BOOT = "0b6ffbe2-8c1f-4c57-9d3a-1f0c5d7e9a42";
const BOOT_FILE = "/proc/sys/kernel/random/boot_id";
const files = (given: Record<string, string>) => (path: string) => given[path] ?? null;

describe("a host without a machine id", () => {
  const CASES: [string, string | null][] = [
    ["missing", null],
    ["empty", ""],
    ["uninitialized", "uninitialized\n"],
    ["all zeros", `${"0".repeat(32)}\n`],
    ["too short", "3d1219c7\n"],
    ["not hexadecimal", `${"g".repeat(32)}\n`],
  ];
  for (const [name, text] of CASES) {
    test(`${name}: unavailable, with what to do`, () => {
      let thrown: unknown;
      try {
        hostIdentity(files(text === null ? {} : { "/etc/machine-id": text }));
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toMatchObject({
        code: "unavailable",
        hint: expect.stringContaining("systemd-machine-id-setup"),
      });
    });
  }
});

describe("a boot without an id", () => {
  const CASES: [string, string | null][] = [
    ["not readable", null],
    ["empty", "\n"],
    ["in capitals", BOOT.toUpperCase()],
    ["with more behind it", `${BOOT} ${BOOT}`],
  ];
  for (const [name, text] of CASES) {
    test(`${name}: unavailable, since a plan could outlive it`, () => {
      const given = { "/etc/machine-id": ID, ...(text === null ? {} : { [BOOT_FILE]: text }) };
      expect(() => hostIdentity(files(given))).toThrow("can't be bound to this boot");
    });
  }
});

describe("the boot in the words of the unit", () => {
  const given = files({ "/etc/machine-id": ID, [BOOT_FILE]: "11111111-2222-3333-4444-555555555555" });
  test("comes before the file, and is written as the file has it", () =>
    expect(hostIdentity(given, BOOT.replaceAll("-", "")).boot_id).toBe(BOOT));
  for (const word of ["", "%b", "0", BOOT.replaceAll("-", "").slice(1)]) {
    test(`${JSON.stringify(word)} is none: unavailable, and not the file's`, () =>
      expect(() => hostIdentity(given, word)).toThrow("can't be bound to this boot"));
  }
});

test("identity is a keyed hash, the release, dpkg's native architecture, and the boot", () => {
  const host = hostIdentity(
    files({
      "/etc/machine-id": `${ID}\n`,
      [BOOT_FILE]: `${BOOT}\n`,
      "/etc/os-release": 'PRETTY_NAME="Ubuntu 24.04 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n',
      "/var/lib/dpkg/arch": "arm64\narmhf\n",
    }),
  );
  expect(host).toMatchObject({
    os_id: "ubuntu",
    os_version: "24.04",
    architecture: "arm64",
    boot_id: BOOT,
  });
  expect(host.machine_id_hash).toBe(createHmac("sha256", ID).update("aegis").digest("hex"));
  expect(JSON.stringify(host)).not.toContain(ID);
});

test("the vendor's os-release stands in, and a host of one architecture has no list of them", () => {
  const host = hostIdentity(
    files({
      "/etc/machine-id": ID,
      [BOOT_FILE]: BOOT,
      "/usr/lib/os-release": "ID='debian'\nVERSION_ID=12\n",
    }),
  );
  expect(host).toMatchObject({ os_id: "debian", os_version: "12" });
  expect(host.architecture).toMatch(/^[a-z0-9]+$/);
  expect(host.architecture).not.toBe("x64");
});
