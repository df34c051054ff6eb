import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { lookUpSnapshots } from "../src/exec-snapshot.ts";
import type { Subvolume } from "../src/exec-snapshot-btrfs.ts";
import { mountOf, type SnapshotHost, snapshotHost } from "../src/exec-snapshot-host.ts";
import { snapshotProof } from "../src/exec-snapshot-id.ts";
import { install, upgrade } from "./policy-plans.ts";
import { ingredients, refuses } from "./signing-kit.ts";

/*
 * Look-ups on hosts that are made up of recorded answers. What a real btrfs, snapper and lvs answer is in
 * e2e-snapshots.test.ts.
 */

const fixture = (name: string) => readFileSync(join(import.meta.dir, "fixtures/snapshots", name), "utf8");

const PLANNED = new Date("2026-11-22T04:56:00.500Z");
const NOW = new Date("2026-11-22T05:10:00Z");
const seconds = (text: string) => `${Date.parse(text) / 1000}`;

/** Root's `/`, all on one thing. */
const MOUNTS = {
  btrfs: "30 1 0:25 /@ / rw shared:1 - btrfs /dev/sda2 rw,subvol=/@",
  lvm: "30 1 253:1 / / rw shared:1 - ext4 /dev/mapper/vgt-root rw",
  zfs: "30 1 0:25 / / rw shared:1 - zfs rpool/ROOT/debian rw",
};
const ORIGIN = "LVM-LFyzdmqWl3rCLYpQ2GjWuC4HtnIFwLy522QCtAhgXjReO1kxW5ki0bhBMNi60h4J";
const THIN_ORIGIN = `LVM-LFyzdmqWl3rCLYpQ2GjWuC4HtnIFwLy5${"f".repeat(32)}`;

interface Given {
  files?: Record<string, string>;
  lists?: Record<string, string[]>;
  /** Answers of programs, by their last word. */
  answers?: Record<string, string>;
  subvolumes?: Record<string, Partial<Subvolume>>;
  places?: string[];
}

function hostOf({ files = {}, lists = {}, answers = {}, subvolumes = {}, places }: Given): SnapshotHost & {
  ran: string[][];
} {
  const ran: string[][] = [];
  return {
    ran,
    places: places ?? ["/etc", "/usr", "/var/lib/dpkg"],
    async run(program, args) {
      ran.push([program, ...args]);
      const answer = answers[args.at(-1) ?? ""];
      if (answer === undefined) return snapshotHost([]).run("no-such-program", []);
      return answer;
    },
    readText: (path) => files[path] ?? null,
    list: (path) => lists[path] ?? [],
    rootOnlyProblem: (path) => (path.includes("loose") ? "others can write it" : null),
    subvolumeOf(path) {
      const found = subvolumes[path];
      const created = new Date("2026-11-22T04:57:00Z");
      return found === undefined
        ? null
        : { name: "x", uuid: "00", parentUuid: null, created, isTop: true, ...found };
    },
  };
}

/** The system on subvolume `aa`, with a good snapshot of it and others. */
const BTRFS: Given = {
  subvolumes: {
    "/etc": { uuid: "aa", name: "@" },
    "/usr": { uuid: "aa", name: "@" },
    "/var/lib/dpkg": { uuid: "aa", name: "@" },
    "/s/good": { uuid: "bb", parentUuid: "aa" },
    "/s/old": { uuid: "bb", parentUuid: "aa", created: new Date("2026-11-22T04:56:00.400Z") },
    "/s/future": { uuid: "bb", parentUuid: "aa", created: new Date("2026-11-22T05:10:01Z") },
    "/s/plain": { uuid: "cc" },
    "/s/of-home": { uuid: "dd", parentUuid: "ee" },
    "/s/good/etc": { uuid: "bb", parentUuid: "aa", isTop: false },
    "/.snapshots/42/snapshot": { uuid: "ff", parentUuid: "aa" },
    "/b/@/.snapshots/1/snapshot": { uuid: "ff", parentUuid: "aa" },
  },
  files: {
    "/etc/snapper/configs/root": 'SUBVOLUME="/"\nFSTYPE="btrfs"\n',
    "/etc/snapper/configs/bb": fixture("snapper-config"),
    "/etc/snapper/configs/thin": 'SUBVOLUME="/"\nFSTYPE="lvm(ext4)"\n',
    "/etc/snapper/configs/loose": 'SUBVOLUME="/"\nFSTYPE="btrfs"\n',
    "/etc/snapper/configs/empty": "",
  },
};

/** lvs' recorded answer, with the bits of lv_attr as a kernel that has device-mapper fills them in (lvs(8), NOTES). */
const attr = (name: string, bits: string) =>
  fixture(name).replace(/"lv_attr":"[^"]*"/, `"lv_attr":"${bits}"`);
const lvm = (answer: string, mounted = ORIGIN): Given => ({
  answers: { "vgt/rootsnap": answer, "vgt/thinsnap": answer, "vgt/thin": answer, "vgt/root": answer },
  files: { "/proc/self/mountinfo": MOUNTS.lvm, "/sys/dev/block/253:1/dm/uuid": `${mounted}\n` },
});
const THICK = attr("lvs-thick-snapshot.json", "swi-a-s---");
const THIN = attr("lvs-thin-snapshot.json", "Vwi---tz-k");

const zfs = (lines: string[][]): Given => ({
  answers: { "rpool/ROOT/debian@before": lines.map((line) => `${line.join("\t")}\n`).join("") },
  files: { "/proc/self/mountinfo": MOUNTS.zfs },
});
const zfsOf = (type: string, creation: string, name = "rpool/ROOT/debian@before") =>
  zfs([
    [name, "type", type],
    [name, "creation", creation],
  ]);

async function lookUp(ids: readonly string[], given: Given, plan = upgrade()) {
  const { policy } = ingredients(plan);
  return lookUpSnapshots(
    {
      control_proofs: ids.map((id) => snapshotProof(id, NOW)),
      operation_plan: { ...plan, created_at: PLANNED.toISOString() },
      policy_result: policy.document,
    },
    NOW,
    hostOf(given),
  );
}

const REFUSED: [what: string, id: string, given: Given, says: string][] = [
  ["btrfs: nothing there (PEER 9)", "btrfs:/anything", BTRFS, "no btrfs subvolume"],
  ["btrfs: not a btrfs", "btrfs:/etc", {}, "no btrfs subvolume"],
  ["btrfs: a subvolume that is no snapshot", "btrfs:/s/plain", BTRFS, "not a snapshot"],
  ["btrfs: a directory in a snapshot", "btrfs:/s/good/etc", BTRFS, "a directory"],
  ["btrfs: a snapshot of another subvolume", "btrfs:/s/of-home", BTRFS, "contains none of"],
  ["btrfs: older than the plan by a tenth of a second", "btrfs:/s/old", BTRFS, "before the plan"],
  ["btrfs: of the future", "btrfs:/s/future", BTRFS, "in the future"],
  ["snapper: no such snapshot (PEER 9)", "snapper:7", BTRFS, "no btrfs subvolume"],
  ["snapper: no such configuration", "snapper:no/42", BTRFS, "there is no /etc/snapper/configs/no"],
  ["snapper: a configuration that others can write", "snapper:loose/42", BTRFS, "others can write"],
  ["snapper: another file system", "snapper:thin/42", BTRFS, "lvm:"],
  ["snapper: an empty configuration", "snapper:empty/42", BTRFS, "no SUBVOLUME"],
  ["lvm: lvs is not installed (PEER 9)", "lvm:vgt/rootsnap", {}, "is not installed"],
  ["lvm: no such volume", "lvm:vgt/rootsnap", lvm(fixture("lvs-absent.json")), "does not list"],
  ["lvm: another volume's answer", "lvm:vgt/rootsnap", lvm(THIN), "does not list"],
  ["lvm: an origin", "lvm:vgt/root", lvm(attr("lvs-origin.json", "owi-aos---")), "not a snapshot"],
  ["lvm: a thin volume", "lvm:vgt/thin", lvm(attr("lvs-thin-volume.json", "Vwi-aotz--")), "not a snapshot"],
  ["lvm: as recorded, its state unknown", "lvm:vgt/rootsnap", lvm(fixture("lvs-thick-snapshot.json")), "XX"],
  ["lvm: a full one", "lvm:vgt/rootsnap", lvm(THICK.replace("swi-a-s", "swi-I-s")), "full"],
  ["lvm: one being merged", "lvm:vgt/rootsnap", lvm(THICK.replace("swi-a-s", "Swi-a-s")), "not a snapshot"],
  ["lvm: with a disk missing", "lvm:vgt/rootsnap", lvm(THICK.replace("a-s---", "a-s-p-")), "incomplete"],
  ["lvm: only history", "lvm:vgt/thinsnap", lvm(THIN.replace("Vwi---", "Vwi-h-"), THIN_ORIGIN), "history"],
  ["lvm: of a volume that holds nothing", "lvm:vgt/rootsnap", lvm(THICK, THIN_ORIGIN), "contains none of"],
  ["lvm: no JSON", "lvm:vgt/rootsnap", lvm("  rootsnap vgt swi-a-s---"), "unexpected output"],
  [
    "lvm: a time that is none",
    "lvm:vgt/rootsnap",
    lvm(THICK.replace("1795323400", "2026-11-22 04:56:40 +0000")),
    "unexpected output",
  ],
  [
    "lvm: older than the plan",
    "lvm:vgt/rootsnap",
    lvm(THICK.replace("1795323400", seconds("2026-11-22T04:55:59Z"))),
    "before the plan",
  ],
  [
    "lvm: of the plan's own second, which may have been before it",
    "lvm:vgt/rootsnap",
    lvm(THICK.replace("1795323400", seconds("2026-11-22T04:56:00Z"))),
    "before the plan",
  ],
  ["zfs: zfs is not installed (PEER 9)", "zfs:any@thing", {}, "is not installed"],
  [
    "zfs: not a snapshot",
    "zfs:rpool/ROOT/debian@before",
    zfsOf("bookmark", "1795323400"),
    "does not call that a snapshot",
  ],
  [
    "zfs: another one's answer",
    "zfs:rpool/ROOT/debian@before",
    zfsOf("snapshot", "1795323400", "x@y"),
    "snapshot",
  ],
  [
    "zfs: a time for people",
    "zfs:rpool/ROOT/debian@before",
    zfsOf("snapshot", "Sun Nov 22  4:56 2026"),
    "when",
  ],
  ["zfs: no answer", "zfs:rpool/ROOT/debian@before", zfs([]), "snapshot"],
  [
    "zfs: older than the plan",
    "zfs:rpool/ROOT/debian@before",
    zfsOf("snapshot", "1795000000"),
    "before the plan",
  ],
  [
    "zfs: of another dataset",
    "zfs:rpool/ROOT/debian@before",
    { ...zfsOf("snapshot", "1795323400"), files: { "/proc/self/mountinfo": MOUNTS.btrfs } },
    "contains none of",
  ],
];

describe("refused", () => {
  for (const [what, id, given, says] of REFUSED) {
    test(what, () => refuses(() => lookUp([id], given), "control_invalid", says));
  }
  test("one of several", () =>
    refuses(() => lookUp(["btrfs:/s/good", "btrfs:/s/plain"], BTRFS), "control_invalid", "/s/plain"));
  test("even if policy requires no snapshot: what is signed must be true", () =>
    refuses(() => lookUp(["btrfs:/anything"], BTRFS, install()), "control_invalid"));
});

const FOUND: [what: string, id: string, given: Given, of: string, made: string][] = [
  ["btrfs", "btrfs:/s/good", BTRFS, "subvolume @", "2026-11-22T04:57:00.000Z"],
  ["snapper, configuration root", "snapper:42", BTRFS, "subvolume @", "2026-11-22T04:57:00.000Z"],
  [
    "snapper, as it writes its configuration",
    "snapper:bb/1",
    BTRFS,
    "subvolume @",
    "2026-11-22T04:57:00.000Z",
  ],
  ["lvm", "lvm:vgt/rootsnap", lvm(THICK), "vgt/root", "2026-11-22T04:56:40.000Z"],
  ["lvm, thin", "lvm:vgt/thinsnap", lvm(THIN, THIN_ORIGIN), "vgt/thin", "2026-11-22T04:56:41.000Z"],
  [
    "zfs (documented answer)",
    "zfs:rpool/ROOT/debian@before",
    zfsOf("snapshot", "1795323400"),
    "dataset rpool/ROOT/debian",
    "2026-11-22T04:56:40.000Z",
  ],
];

describe("found", () => {
  for (const [what, id, given, of, created_at] of FOUND) {
    test(what, async () => {
      const holds = ["/etc", "/usr", "/var/lib/dpkg"];
      expect(await lookUp([id], given)).toMatchObject([{ of, holds, created_at }]);
    });
  }
  test("lvm under dm-crypt", async () => {
    const given = lvm(THICK);
    const files = {
      "/proc/self/mountinfo": MOUNTS.lvm,
      "/sys/dev/block/253:1/dm/uuid": "CRYPT-LUKS2-0123-root\n",
      "/sys/class/block/dm-0/dm/uuid": `${ORIGIN}\n`,
    };
    const lists = { "/sys/dev/block/253:1/slaves": ["dm-0"] };
    expect(await lookUp(["lvm:vgt/rootsnap"], { ...given, files, lists })).toHaveLength(1);
    const two = { "/sys/dev/block/253:1/slaves": ["dm-0", "dm-1"] };
    await refuses(
      () => lookUp(["lvm:vgt/rootsnap"], { ...given, files, lists: two }),
      "control_invalid",
      "contains none",
    );
  });
  test("a bare id is not looked up", async () => expect(await lookUp(["anything"], {})).toEqual([]));
});

describe("what the snapshots contain together", () => {
  /** /var/lib/dpkg has a subvolume of its own. */
  const split: Given = {
    ...BTRFS,
    subvolumes: {
      ...BTRFS.subvolumes,
      "/var/lib/dpkg": { uuid: "99", name: "@var" },
      "/s/var": { uuid: "98", parentUuid: "99" },
    },
  };
  test("refused: a required snapshot that leaves a directory out", () =>
    refuses(() => lookUp(["btrfs:/s/good"], split), "control_invalid", "none contains /var/lib/dpkg"));
  test("one for each", async () => {
    expect(await lookUp(["btrfs:/s/good", "btrfs:/s/var"], split)).toHaveLength(2);
  });
  test("if policy requires none, a snapshot of a part is accepted", async () => {
    expect(await lookUp(["btrfs:/s/good"], split, install())).toHaveLength(1);
  });
});

test("what is run: two programs, each id as the last word of its own", async () => {
  const host = hostOf({});
  for (const id of ["lvm:vg/lv", "zfs:a/b@c"]) {
    const proof = snapshotProof(id, NOW);
    await refuses(
      () =>
        lookUpSnapshots(
          {
            control_proofs: [proof],
            operation_plan: install(),
            policy_result: ingredients().policy.document,
          },
          NOW,
          host,
        ),
      "control_invalid",
    );
  }
  const fields = "lv_name,vg_name,vg_uuid,lv_time,lv_attr,origin,origin_uuid";
  expect(host.ran).toEqual([
    ["lvs", "--reportformat", "json", "--config", 'report{time_format="%s"}', "-o", fields, "--", "vg/lv"],
    ["zfs", "get", "-Hp", "-o", "name,property,value", "type,creation", "a/b@c"],
  ]);
});

test("the mount that a path is on: the longest, the later of two, spaces unescaped", () => {
  const info = [
    "1 0 8:1 / / rw - ext4 /dev/sda1 rw",
    "2 1 8:2 / /usr rw - ext4 /dev/sda2 rw",
    "3 1 8:3 / /usr rw shared:1 master:2 - ext4 /dev/sda3 rw",
    "4 1 8:4 / /us rw - ext4 /dev/sda4 rw",
    "5 1 0:9 / /a\\040b rw - zfs pool/a\\040b rw",
    "torn",
  ].join("\n");
  expect(mountOf("/usr/bin", info)?.device).toBe("8:3");
  expect(mountOf("/usr", info)?.device).toBe("8:3");
  expect(mountOf("/etc", info)?.device).toBe("8:1");
  expect(mountOf("/a b/c", info)?.source).toBe("pool/a b");
  expect(mountOf("/etc", "")).toBeNull();
});
