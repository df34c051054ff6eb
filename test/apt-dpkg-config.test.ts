import { describe, expect, test } from "bun:test";
import { refuseDpkgConfig } from "../src/apt-dpkg-config.ts";
import { refuses } from "./signing-kit.ts";

const SITE = "/etc/dpkg/dpkg.cfg.d/site";

/** A host with these files. */
const check = (files: Record<string, string>) =>
  refuseDpkgConfig({
    readText: (path) => files[path] ?? null,
    list: (directory) =>
      Object.keys(files)
        .filter((path) => path.startsWith(`${directory}/`))
        .map((path) => path.slice(directory.length + 1)),
  });

describe("options of dpkg's configuration files that no plan would show are refused", () => {
  const REFUSED = [
    "root=/srv",
    "root /srv",
    "root\t/srv",
    "admindir=/srv",
    "instdir=/srv",
    'instdir="/srv"',
    "no-act",
    "simulate",
    "dry-run",
    "ignore-depends=libc6",
    "selected-only",
    "skip-same-version",
    "recursive",
    "no-triggers",
    "abort-after=0",
    "status-fd=9",
    "auto-deconfigure",
    "nonsense",
    "--log=/x",
    " log /x",
    "force",
    "force=all",
    "logs /x",
    "log:/x\nroot=/srv",
    "# a comment\nroot=/srv",
    "log /x\r\nroot=/srv",
  ];
  for (const text of REFUSED) {
    test(JSON.stringify(text), () => refuses(() => check({ [SITE]: text }), "refused", "no plan would show"));
  }
  for (const path of ["/etc/dpkg/dpkg.cfg", "/root/.dpkg.cfg", "/etc/dpkg/dpkg.cfg.d/A_b-9"]) {
    test(path, () =>
      refuses(() => check({ [path]: "no-act\n" }), "refused", "dpkg is configured with no-act"),
    );
  }
});

describe("others are not", () => {
  const PASSES = [
    "",
    "# dpkg configuration file\n#no-act\n\nno-debsig\nlog /var/log/dpkg.log\n",
    "force-all\nno-force-depends\nrefuse-force-overwrite\n",
    "path-exclude=/usr/share/doc/*\npath-include=/usr/share/doc/*/copyright\n",
    "status-logger=/usr/lib/needrestart/dpkg-status\npre-invoke=x\npost-invoke=y\n",
    "log /x  \r\ndebug=1\nno-pager\n",
  ];
  for (const text of PASSES) {
    test(JSON.stringify(text), () => expect(check({ [SITE]: text })).toBeUndefined());
  }
  test("files that dpkg passes over", () => {
    expect(check({ [`${SITE}.dpkg-old`]: "no-act", "/etc/dpkg/dpkg.cfg.d/a~": "no-act" })).toBeUndefined();
  });
});
