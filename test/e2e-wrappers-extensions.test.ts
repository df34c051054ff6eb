import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Chain, startChain } from "./e2e-kit.ts";
import { fakeSource } from "./nuget-kit.ts";
import { serveAnswers } from "./registry-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";
import { serveGallery } from "./vscode-kit.ts";

/*
 * nuget, code and code-server through the wrappers' links, with a source and a gallery of the test's own: what installs becomes a plan,
 * whatever way it is spelled, and what can't be told is refused; the programs themselves, which note their calls, are not started.
 */

const NAMES = ["nuget", "code", "code-server"];

describeOnThrowaway("wrappers of nuget, code and code-server", () => {
  let chain: Chain;
  let source: ReturnType<typeof serveAnswers>;
  let gallery: ReturnType<typeof serveGallery>;
  let env: Record<string, string> = {};
  const sh = (script: string) => chain.host.exec(["bash", "--norc", "-c", script], { env });

  beforeAll(async () => {
    source = serveAnswers((base) => fakeSource([{ id: "Lib", version: "1.0.0" }], { base }));
    gallery = serveGallery(() => [{ id: "acme.one", version: "1.0.0" }]);
    chain = await startChain();
    env = {
      AEGIS_NUGET_SOURCE: `${source.url.origin}/v3/index.json`,
      AEGIS_VSCODE_GALLERY: `${gallery.url.origin}/vscode/gallery`,
    };
    const noting = (name: string, version: string) =>
      `#!/bin/sh\necho "${name} $*" >>/tmp/ran\n[ "$1" = --version ] && echo "${version}"\nexit 0\n`;
    chain.host.write("/usr/bin/nuget", noting("nuget", ""), 0o755);
    chain.host.write("/usr/bin/code", noting("code", "1.100.3"), 0o755);
    chain.host.write("/usr/bin/code-server", noting("code-server", "4.100.3 abc with Code 1.100.3"), 0o755);
    for (const name of NAMES)
      await chain.host.exec(["ln", "-sf", "/usr/local/bin/aegis", `/usr/local/bin/${name}`]);
  }, 60_000);
  afterAll(async () => {
    await chain.stop();
    await Promise.all([source.stop(true), gallery.stop(true)]);
  });

  const PLANNED: [line: string, tool: string, targets: string[]][] = [
    ["nuget install Lib -Version 1.0.0", "nuget", ["Lib@1.0.0"]],
    ["nuget install Lib", "nuget", ["Lib"]],
    ["nuget install Lib -version 1.0.0 -NonInteractive", "nuget", ["Lib@1.0.0"]],
    ["code --install-extension acme.one@1.0.0", "vscode", ["acme.one@1.0.0"]],
    ["code --install-extension=acme.one@1.0.0 --force", "vscode", ["acme.one@1.0.0"]],
    ["code-server --install-extension Acme.One@1.0.0", "vscode", ["acme.one@1.0.0"]],
    ["code-server --install-extension acme.one --force", "vscode", ["acme.one"]],
  ];
  test.each(PLANNED)(
    "%s: a plan, which the defaults deny, and nothing is installed",
    async (line, tool, targets) => {
      const { status, stdout, stderr } = await sh(line);
      expect(stderr).toContain(`${line.split(" ")[0]} was not run`);
      expect([status, stdout]).toEqual([3, expect.stringContaining("Policy denies this plan")]);
      const path = /Written: (\S+)/.exec(stdout)?.[1] ?? "";
      expect(JSON.parse(chain.host.read(path))).toMatchObject({ tool, targets, metadata_available: true });
    },
  );

  describe("refused", () => {
    const REFUSED: [line: string, status: number, says: string][] = [
      ["nuget instal Lib", 126, "does not know instal"],
      ["nuget install", 2, "needs at least one target"],
      ["nuget install Lib -Source http://evil.example", 126, "-Source"],
      ["nuget install Lib -OutputDirectory /tmp/x", 126, "-OutputDirectory"],
      ["nuget install packages.config", 3, "requirements-file-denied"],
      ["nuget restore", 126, "changes what is installed"],
      ["code --install-extention acme.one", 126, "does not know --install-extention"],
      ["code --install-extension", 2, "needs at least one target"],
      ["code --install-extension acme.one --extensions-dir /tmp/x", 126, "--extensions-dir"],
      ["code --install-extension ./evil.vsix", 3, "vsix-denied"],
      ["code --extensions-dir /tmp/x --install-extension acme.one", 126, "does not know --extensions-dir"],
      ["code-server --install-extension acme.one --enable-proposed-api x", 126, "--enable-proposed-api"],
      ["code-server --install-extensions acme.one", 126, "does not know --install-extensions"],
      ["code-server --install-extension /tmp/evil.vsix", 3, "vsix-denied"],
      ["code-server --bind-addr 0.0.0.0:80", 126, "does not know --bind-addr"],
      ["code-server --install-extension acme", 2, "invalid_target"],
    ];
    test.each(REFUSED)("%s: %p", async (line, expected, says) => {
      const { status, stdout, stderr } = await sh(line);
      expect(`${stdout}${stderr}`).toContain(says);
      expect(status).toBe(expected);
    });
  });

  test("what only looks passes; nothing else was started but for its version", async () => {
    await sh("nuget list Lib; code --list-extensions --show-versions; code-server --list-extensions");
    const ran = (await sh("cat /tmp/ran")).stdout.split("\n").filter((line) => !/ --version$|^$/.test(line));
    expect(ran).toEqual([
      "nuget list Lib",
      "code --list-extensions --show-versions",
      "code-server --list-extensions",
    ]);
  });
});
