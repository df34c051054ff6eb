import { describe, expect, test } from "bun:test";
import { signedAptArgv } from "../src/apt-argv.ts";
import { entry } from "./policy-plans.ts";
import { configured, vendorFile } from "./policy-repository-cases.ts";

const plan = (operation: string, ...exact_targets: string[]) => ({
  operation,
  exact_targets,
  transaction: [],
});

describe("can't be signed", () => {
  for (const [what, p] of [
    ["an install of nothing", plan("install")],
    ["a package without version", plan("install", "nginx")],
    ["an option", plan("install", "-o=1")],
    ["a removal", plan("install", "nginx=1.0", "jq-")],
    ["a pattern", plan("install", "nginx.*=1")],
    ["a version glob", plan("install", "nginx=1*")],
    ["a file", plan("install", "./x.deb")],
    ["a removal of nothing", plan("remove")],
    ["a removal with a version", plan("remove", "nginx=1.0")],
    ["a removal's operator", plan("remove", "nginx-")],
    ["a security upgrade of nothing", plan("security-upgrade")],
    ["a security upgrade without a version", plan("security-upgrade", "nginx")],
    ["a purge of nothing", plan("purge")],
    ["a purge of a version", plan("purge", "nginx=1.0")],
    ["a hold of nothing", plan("hold")],
    ["a hold of a version", plan("hold", "nginx=1.0")],
    ["a hold with an option", plan("hold", "-f")],
    ["a rollback of nothing", plan("rollback")],
    ["a rollback that would both install and remove", plan("rollback", "nginx=1.0", "jq")],
    ["a rollback that would both remove and install", plan("rollback", "jq", "nginx=1.0")],
    ["a repository's addition without one", plan("add-repository", "vendor")],
    ["a repository that changes nothing", { ...plan("add-repository"), repository: configured(null, null) }],
    ["an unknown operation", plan("dist-upgrade")],
    ["a name on Object.prototype", plan("constructor", "nginx=1")],
  ] as const) {
    test(what, () =>
      expect(() => signedAptArgv(p)).toThrow(expect.objectContaining({ code: "invalid_document" })),
    );
  }
});

describe("signed argv", () => {
  test("update", () => expect(signedAptArgv(plan("update"))).toEqual(["apt-get", "update"]));
  test("upgrade", () => {
    expect(signedAptArgv(plan("upgrade"))).toEqual([
      "apt-get",
      "upgrade",
      "-y",
      "-o",
      "Dpkg::Options::=--force-confold",
    ]);
  });
  test("remove", () => {
    expect(signedAptArgv(plan("remove", "nginx", "libc6:i386"))).toEqual([
      ...["apt-get", "remove", "-y", "nginx", "libc6:i386"],
    ]);
  });
  test("a repository, by the digests of its file", () => {
    const [old, fresh] = [configured(vendorFile("rsa2048"), null), configured(null, vendorFile())];
    const both = configured(vendorFile("rsa2048"), vendorFile());
    const of = (digest: string | null) => `sha256:${digest}`;
    const signed = (operation: string, repository: typeof both) =>
      signedAptArgv({ ...plan(operation, "vendor"), repository }).slice(2);
    expect(signed("add-repository", fresh)).toEqual(["add", "vendor", of(fresh.after_sha256)]);
    expect(signed("add-repository", both)).toEqual([
      "replace",
      "vendor",
      of(both.before_sha256),
      of(both.after_sha256),
    ]);
    expect(signed("remove-repository", old)).toEqual(["remove", "vendor", of(old.before_sha256)]);
    expect(signed("rollback", old)).toEqual(["remove", "vendor", of(old.before_sha256)]);
  });
  test("an upgrade that claims a repository is an upgrade", () =>
    expect(signedAptArgv({ ...plan("upgrade"), repository: configured(null, vendorFile()) })[1]).toBe(
      "upgrade",
    ));
  test("rollback restores versions, or removes", () => {
    expect(signedAptArgv(plan("rollback", "nginx=1.22.1-9"))).toEqual([
      ...["apt-get", "install", "-y", "--allow-downgrades", "nginx=1.22.1-9"],
    ]);
    expect(signedAptArgv(plan("rollback", "jq"))).toEqual(["apt-get", "remove", "-y", "jq"]);
  });
  test("security-upgrade, full-upgrade, autoremove and purge", () => {
    const argv = (operation: string, ...names: string[]) =>
      signedAptArgv(plan(operation, ...names)).join(" ");
    expect(argv("full-upgrade")).toBe("apt-get full-upgrade -y -o Dpkg::Options::=--force-confold");
    expect(argv("security-upgrade", "nginx=1.1", "libc6:i386=2")).toBe(
      "apt-get install -y --only-upgrade nginx=1.1 libc6:i386=2",
    );
    expect(argv("autoremove")).toBe("apt-get autoremove -y");
    expect(argv("purge", "nginx", "libc6:i386")).toBe("apt-get purge -y nginx libc6:i386");
  });
  test("hold and unhold, and a rollback of either", () => {
    for (const mark of ["hold", "unhold"] as const) {
      expect(signedAptArgv(plan(mark, "nginx", "libc6:i386"))).toEqual([
        "apt-mark",
        mark,
        "nginx",
        "libc6:i386",
      ]);
      const rollback = { ...plan("rollback", "nginx"), transaction: [entry("nginx", { action: mark })] };
      expect(signedAptArgv(rollback)).toEqual(["apt-mark", mark, "nginx"]);
    }
  });
  test("repair", () => expect(signedAptArgv(plan("repair"))).toEqual(["dpkg", "--configure", "-a"]));
  test("install names every version", () => {
    expect(
      signedAptArgv(plan("install", "nginx=1.22.1-9+deb12u11", "libc6:i386=2.36-9", "g++=4:12.2.0-3")),
    ).toEqual(["apt-get", "install", "-y", "nginx=1.22.1-9+deb12u11", "libc6:i386=2.36-9", "g++=4:12.2.0-3"]);
  });
});
