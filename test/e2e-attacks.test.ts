import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Chain, startChain } from "./e2e-kit.ts";
import { pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/* What a hostile reviewer of this code got through with, each now refused. */

describeOnThrowaway("attacks that once worked", () => {
  let chain: Chain;
  beforeAll(async () => {
    chain = await startChain();
    chain.host.write("/etc/sleeper-seconds", "4\n");
    await chain.host.repo.publish(pick("hello-aegis=1.0", "sleeper=1.0", "libapp=1.0", "openssh-aegis=1.0"));
    await chain.host.aptUpdate();
    await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  /** Submits the sleeping package and resolves when it runs; `done` when it has ended. */
  const occupy = async () => {
    const { path, execution } = await chain.signed("apt", "install", "sleeper");
    const done = chain.apply(path);
    const running = async () => {
      const { document } = await chain.json(["daemon", "status"]);
      return JSON.stringify(document).includes(`"running":"${execution.execution_plan_id}"`);
    };
    while (!(await running())) await Bun.sleep(50);
    return { done };
  };

  test("a key that is revoked while its plan waits in the queue", async () => {
    const trusted = chain.host.read("/etc/aegis/trusted-keys.toml");
    const waiting = await chain.signed("apt", "install", "openssh-aegis");
    const occupied = await occupy();
    const refused = chain.apply(waiting.path, "alice");
    await Bun.sleep(700);
    chain.host.write(
      "/etc/aegis/trusted-keys.toml",
      trusted.replaceAll(/^role = /gm, "revoked = true\nrole = "),
    );
    const { status, stderr } = await refused;
    chain.host.write("/etc/aegis/trusted-keys.toml", trusted);
    expect(stderr).toContain("[key_untrusted]");
    expect(status).toBe(6);
    expect((await occupied.done).status).toBe(0);
    expect(await chain.dpkgStatus("openssh-aegis")).not.toContain("installed");
    await chain.host.exec(["apt-get", "remove", "-y", "sleeper"]);
  });

  test("one plan that is submitted again and again has one place in the queue", async () => {
    const waiting = await chain.signed("apt", "install", "libapp");
    const occupied = await occupy();
    const first = chain.apply(waiting.path, "alice");
    await Bun.sleep(500);
    const again = await chain.apply(waiting.path, "alice");
    expect(again.status).toBe(6);
    expect(again.stderr).toContain("submitted already");
    expect((await first).status).toBe(0);
    expect((await occupied.done).status).toBe(0);
  });

  test("a used plan that is submitted again and again fills no log", async () => {
    const { path, execution } = await chain.signed("apt", "update");
    expect((await chain.apply(path)).status).toBe(0);
    for (let n = 0; n < 6; n++) expect((await chain.apply(path)).status).toBe(6);
    const denied = chain
      .audit()
      .filter((e) => e["kind"] === "execution_denied" && e["execution_id"] === execution.execution_plan_id);
    expect(denied).toHaveLength(1);
    const counted = () => JSON.stringify(chain.audit().filter((e) => e["kind"] === "requests_refused"));
    while (!counted().includes('"code":"replay"')) await Bun.sleep(100);
  });

  test("an update that apt's configuration sends to other sources than were planned", async () => {
    chain.host.write("/opt/evil.d/evil.list", "deb [trusted=yes] http://127.0.0.1:9 stable main\n");
    chain.host.write("/etc/apt/apt.conf.d/99evil", 'Dir::Etc::sourceparts "/opt/evil.d";\n');
    const { path } = await chain.signed("apt", "update");
    const { status, stdout, stderr } = await chain.apply(path);
    await chain.host.exec(["rm", "/etc/apt/apt.conf.d/99evil"]);
    expect(stdout + stderr).not.toContain("127.0.0.1:9");
    expect(stderr).toContain(chain.host.repo.url);
    expect(status).toBe(0);
  });

  const UNCLEAR: [name: string, file: string, text: string][] = [
    ["an encoded yes", "x.list", "deb [trusted=%79es] http://127.0.0.1:9 stable main\n"],
    ["a quoted yes", "x.list", 'deb [trusted="yes"] http://127.0.0.1:9 stable main\n'],
    ["a yes in hexadecimal", "x.list", "deb [trusted=0x1] http://127.0.0.1:9 stable main\n"],
    ["a quoted URI", "x.list", 'deb [trusted=yes] "http://127.0.0.1:9" stable main\n'],
    [
      "a carriage return",
      "x.sources",
      "Types: deb\rTrusted: yes\nURIs: http://127.0.0.1:9\nSuites: s\nComponents: m\n",
    ],
    [
      "no, then yes",
      "x.sources",
      "Types: deb\nTrusted: no\nTrusted: yes\nURIs: http://127.0.0.1:9\nSuites: s\nComponents: m\n",
    ],
  ];
  for (const [name, file, text] of UNCLEAR) {
    test(`an update of a source that apt need not verify, hidden behind ${name}`, async () => {
      chain.host.write(`/etc/apt/sources.list.d/${file}`, text);
      const { plan } = await chain.plan("apt", "update");
      const { result } = await chain.policy(plan.plan_id);
      await chain.host.exec(["rm", `/etc/apt/sources.list.d/${file}`]);
      expect(["require_human", "deny"]).toContain(result.decision);
    });
  }

  test("a search path for dpkg's programs in apt's configuration", async () => {
    chain.host.write(
      "/opt/evil/dpkg-deb",
      '#!/bin/sh\ntouch /evil-ran\nexec /usr/bin/dpkg-deb "$@"\n',
      0o755,
    );
    chain.host.write("/etc/apt/apt.conf.d/99evil", 'DPkg::Path "/opt/evil:/usr/sbin:/usr/bin:/sbin:/bin";\n');
    const { path } = await chain.signed("apt", "install", "hello-aegis");
    const { status } = await chain.apply(path);
    await chain.host.exec(["rm", "/etc/apt/apt.conf.d/99evil"]);
    expect(status).toBe(0);
    expect((await chain.host.exec(["test", "-e", "/evil-ran"])).status).toBe(1);
  });
});
