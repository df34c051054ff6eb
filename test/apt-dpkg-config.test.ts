import { describe, expect, test } from "bun:test";
import { dpkgHooks, refuseDpkgConfig } from "../src/apt-dpkg-config.ts";
import { refuses } from "./signing-kit.ts";

const SITE = "/etc/dpkg/dpkg.cfg.d/site";

/** A host with these files; null for unreadable ones. */
const host = (files: Record<string, string | null>) => ({
  readText: (path: string) => files[path] ?? null,
  list: (directory: string) =>
    Object.keys(files)
      .filter((path) => path.startsWith(`${directory}/`))
      .map((path) => path.slice(directory.length + 1)),
});
const check = (files: Record<string, string | null>) => refuseDpkgConfig(host(files));

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

describe("text that dpkg reads differently than it looks", () => {
  /** dpkg takes the text after the first 1,023 bytes as a new line. */
  const LONG = `#${"x".repeat(1022)}instdir=/srv`;
  for (const path of [SITE, "/etc/dpkg/dpkg.cfg", "/root/.dpkg.cfg"]) {
    test(`an option behind a long comment in ${path}`, () =>
      refuses(() => check({ [path]: `${LONG}\n` }), "refused", "longer than 1000 bytes"));
    test(`${path} can't be read`, () =>
      refuses(() => check({ [path]: null }), "refused", `${path} can't be read`));
  }
  test("bytes count, not characters", () => {
    refuses(() => check({ [SITE]: `log /${"ü".repeat(500)}` }), "refused", "longer than 1000 bytes");
    expect(check({ [SITE]: `log /${"x".repeat(900)}` })).toBeUndefined();
  });
  test("white space that dpkg doesn't recognise is an unknown option", () =>
    refuses(() => check({ [SITE]: "\u00a0\n" }), "refused", "no plan would show"));
});

describe("programs that dpkg starts", () => {
  const LOGGER = "status-logger=/usr/lib/needrestart/dpkg-status";
  const FILES = {
    "/etc/dpkg/dpkg.cfg": 'log /x\npost-invoke "echo b"\n',
    "/etc/dpkg/dpkg.cfg.d/needrestart": `# needrestart\n${LOGGER}  \n`,
    "/etc/dpkg/dpkg.cfg.d/old~": "pre-invoke=x",
    "/root/.dpkg.cfg": "debug=1\n",
  };
  test("of the host's files are in the plan, in dpkg's order", () => {
    expect(dpkgHooks(host(FILES))).toEqual({
      hooks: [
        { configured_in: "/etc/dpkg/dpkg.cfg.d/needrestart", command: LOGGER },
        { configured_in: "/etc/dpkg/dpkg.cfg", command: 'post-invoke "echo b"' },
      ],
      problems: [],
    });
    expect(dpkgHooks(host({}))).toEqual({ hooks: [], problems: [] });
  });
  for (const line of ["post-invoke=x", "pre-invoke x", LOGGER]) {
    test(`of a file that only root reads are refused: ${line}`, () =>
      refuses(() => check({ "/root/.dpkg.cfg": line }), "refused", `dpkg is configured with ${line}`));
  }
  test("a plan that can't determine them says so", () => {
    const said = (files: Record<string, string | null>) => dpkgHooks(host(files)).problems.join();
    expect(said({ [SITE]: null })).toContain(`${SITE} can't be read`);
    expect(said({ [SITE]: "x".repeat(1001) })).toContain("longer than 1000 bytes");
    expect(said({ [SITE]: "pre-invoke=x\n".repeat(65) })).toContain("with 65 hooks");
  });
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
  test("files that dpkg ignores", () => {
    expect(check({ [`${SITE}.dpkg-old`]: "no-act", "/etc/dpkg/dpkg.cfg.d/a~": "no-act" })).toBeUndefined();
  });
});
