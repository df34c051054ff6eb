import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { WRAPPER_NAMES } from "../src/eco-names.ts";
import { SYSTEM_PATH } from "../src/sys-spawn.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { BASE, fakeImage, imageAnswers } from "./image-kit.ts";
import { pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * The wrappers as `aegis daemon install --wrappers` links them: the compiled binary under a package manager's name, early in
 * PATH. A cargo made for the purpose shows what of a process arrives.
 */

const CARGO = `#!/bin/bash
case $2 in
  words) printf '<%s>' "$0" "$@" ;;
  cmdline) cat /proc/$$/cmdline ;;
  environment) cat /proc/$$/environ ;;
  signals) grep SigIgn /proc/$$/status ;;
  files) ulimit -Sn; ulimit -Hn ;;
  descriptor) cat <&7 ;;
  input) cat ;;
  exit) exit "$3" ;;
  die) kill -"$3" $$ ;;
  pid) echo $$ ;;
  again) PATH=/usr/local/bin:$PATH cargo search again ;;
  again-exec) exec cargo search again-exec ;;
  terminal) tty; stty size; read -r line; echo "read $line" ;;
esac
`;

describeOnThrowaway("wrappers", () => {
  let chain: Chain;
  const sh = (script: string, env: Record<string, string> = {}) =>
    // Without --norc bash believes that rshd started it, since its input is a socket.
    chain.host.exec(["bash", "--norc", "-c", script], { env });

  beforeAll(async () => {
    chain = await startChain();
    const { host } = chain;
    await host.repo.publish(pick("hello-aegis=1.0"));
    await host.aptUpdate();
    const present = SYSTEM_PATH.flatMap((path) =>
      ["cargo", "docker", "podman", "nuget"].map((name) => `${path}/${name}`),
    );
    await host.exec(["rm", "-f", ...present]);
    host.write("/usr/bin/cargo", CARGO, 0o755);
    for (const name of ["docker", "podman"])
      host.write(`/usr/bin/${name}`, `#!/bin/sh\necho "$@" >>/tmp/${name}-ran\n`, 0o755);
    for (const name of WRAPPER_NAMES)
      await host.exec(["ln", "-sf", "/usr/local/bin/aegis", `/usr/local/bin/${name}`]);
  });
  afterAll(() => chain.stop());

  describe("refused with 126", () => {
    const CASES: [line: string, says: string][] = [
      ["npm run build", "npm run was not run: it runs scripts of a package"],
      ["podman --bogus ps", "does not know --bogus"],
      ["apt-get install -y --reinstall bash", "aegis plan apt install bash"],
      ["pip install -r x.txt", "requirements-file-denied"],
      ["apt install -f", "aegis plan apt repair"],
      ["nuget list", "nuget is not installed"],
      ["cargo search again", "call each other"],
      ["cargo search again-exec", "call each other"],
    ];
    for (const [line, says] of CASES)
      test(line, async () => {
        const { status, stdout, stderr } = await sh(line);
        expect(stderr).toContain(says);
        expect({ status, stdout }).toEqual({ status: 126, stdout: "" });
      });
    test("--json is the package manager's own", async () =>
      expect((await sh("npm ci --json")).stdout).toBe(""));
  });

  test("a change becomes a plan, which is written; it is no success", async () => {
    const { status, stdout, stderr } = await sh("apt -y install hello-aegis && echo went on");
    expect(status).toBe(4);
    expect(stderr).toContain("apt was not run");
    expect(stdout).not.toContain("went on");
    const path = /Written: (\S+)/.exec(stdout)?.[1] ?? "";
    expect(JSON.parse(chain.host.read(path))).toMatchObject({
      tool: "apt",
      operation: "install",
      command_preview: ["apt-get", "install", "-y", "hello-aegis=1.0"],
    });
    expect(stdout).toMatch(/Next, you: aegis policy [0-9a-f]{8}/);
    expect(await chain.dpkgStatus("hello-aegis")).toBe("");
  });
  test("what policy denies is written too, and ends as policy does", async () => {
    const { status, stdout } = await sh("apt-get install -y ./x.deb");
    expect({ status, written: stdout.includes("Written: ") }).toEqual({ status: 3, written: true });
    expect(stdout).toContain("Policy denies this plan");
    expect(stdout).toContain("local-path-denied");
  });

  describe.each(["docker", "podman"])("%s", (engine) => {
    const ARGV = {
      docker: ["docker"],
      podman: ["podman", "--root", "/var/lib/aegis/podman/storage", "--runroot", "/run/aegis/podman"],
    }[engine];
    const IMAGE = fakeImage();
    let registry: ReturnType<typeof Bun.serve>;
    let name = "";
    /** What the engine itself was called with, that isn't a question about its version. */
    const engineRan = async () =>
      (await sh(`grep -v '^--version$' /tmp/${engine}-ran; rm -f /tmp/${engine}-ran`)).stdout;

    beforeAll(() => {
      const answers = imageAnswers([IMAGE], { "1.27": IMAGE });
      registry = Bun.serve({
        hostname: "127.0.0.1",
        port: 0,
        fetch(request) {
          const answer = answers[`${BASE}${new URL(request.url).pathname.replace("/v2/nginx", "")}`];
          const isThere = typeof answer === "string" || answer instanceof Uint8Array;
          return isThere ? new Response(Buffer.from(answer)) : new Response("{}", { status: 404 });
        },
      });
      name = `127.0.0.1:${registry.port}/nginx`;
      chain.host.write(
        "/etc/aegis/policy.toml",
        `[container]\nallowed_registries = ["127.0.0.1:${registry.port}"]\n`,
      );
    });
    afterAll(async () => {
      await registry.stop(true);
      await chain.host.exec(["rm", "-f", "/etc/aegis/policy.toml"]);
    });

    test("a pull by tag becomes a plan for this engine, which says what to plan instead", async () => {
      const { status, stdout, stderr } = await sh(`${engine} pull ${name}:1.27 && echo went on`);
      expect(stderr).toContain(
        `${engine} was not run; Aegis plans the change instead: aegis plan ${engine} pull ${name}:1.27`,
      );
      expect(stdout).toContain(`aegis plan ${engine} pull ${name}@${IMAGE.digest}`);
      expect([status, stdout]).toEqual([3, expect.not.stringContaining("went on")]);
      const path = /Written: (\S+)/.exec(stdout)?.[1] ?? "";
      expect(JSON.parse(chain.host.read(path))).toMatchObject({
        ...{ ecosystem: engine, mutable_reference: true, exact_targets: [`${name}@${IMAGE.digest}`] },
        command_preview: [...(ARGV ?? []), "pull", `${name}@${IMAGE.digest}`],
      });
      expect(await engineRan()).toBe("");
    });
    test("a pull by digest is allowed by policy, and waits for a signature all the same", async () => {
      const { status, stdout } = await sh(`${engine} pull -q ${name}@${IMAGE.digest}`);
      expect(stdout).toMatch(/Next, you: aegis policy [0-9a-f]{8}/);
      expect(status).toBe(4);
      expect(await engineRan()).toBe("");
    });
    test("what is no image of a registry is denied", async () => {
      const { status, stdout, stderr } = await sh(`${engine} image pull oci:/var/x`);
      expect(stderr).toContain(`aegis plan ${engine} pull oci:/var/x`);
      expect([status, stdout]).toEqual([3, expect.stringContaining("local-path-denied")]);
    });
    test.each([
      [
        "run --rm nginx:1.27",
        `it may pull an image and run it; the pull can be planned: aegis plan ${engine} pull <image>`,
      ],
      ["run --pull=never nginx:1.27", "it may pull an image and run it"],
      ["create nginx:1.27", "it may pull an image and run it"],
      ["compose up -d", "it may pull an image and run it"],
      ["build .", "it adds an image that nobody has reviewed"],
      ["load -i x.tar", "it adds an image that nobody has reviewed"],
      ["exec x sh", "it runs a program in a container"],
      ["container run nginx", "the wrapper does not know container"],
      ["start x", "the wrapper does not know start"],
      ["pull --all-tags nginx", "the wrapper does not know --all-tags"],
      ["pull nginx redis", "images are pulled one at a time"],
    ])("%s doesn't reach the engine", async (line, says) => {
      const { status, stdout, stderr } = await sh(`${engine} ${line}`);
      expect(stderr).toContain(says);
      expect({ isRefused: status === 126 || status === 2, stdout }).toEqual({ isRefused: true, stdout: "" });
      expect(await engineRan()).toBe("");
    });
    test("what only reads does", async () => {
      expect((await sh(`${engine} images --digests; ${engine} --version`)).status).toBe(0);
      expect(await engineRan()).toBe("images --digests\n");
    });
  });

  test("likewise of another package manager", async () => {
    const { status, stdout } = await sh("pip3 install ./requests");
    expect({ status, written: stdout.includes("Written: ") }).toEqual({ status: 3, written: true });
    expect(stdout).toContain("local-path-denied");
  });
  test("what policy allows waits for a signature all the same", async () =>
    expect((await sh("apt-get update")).status).toBe(4));
  test("a package that nobody knows ends as planning does, without a plan", async () => {
    const { status, stdout, stderr } = await sh("apt-get install -y nosuchpkg");
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toContain("apt doesn't know the package nosuchpkg");
  });
  test("what is there already is no failure", async () =>
    expect((await sh("apt-get install -y bash")).status).toBe(0));
  test("a target that planning refuses ends as planning does", async () => {
    const { status, stderr } = await sh("apt install 'a b'");
    expect({ status, code: stderr.includes("[invalid_target]") }).toEqual({ status: 2, code: true });
  });

  describe("let through, as it came", () => {
    const CASES: [what: string, script: string, out: string | RegExp][] = [
      ["words", "cargo search words a '' 'b c' '*'", "</usr/bin/cargo><search><words><a><><b c><*>"],
      ["words that aren't UTF-8", "cargo search cmdline $'x\\xff' | od -An -tx1 | tr -d ' \\n'", /78ff00$/],
      [
        "environment",
        "A=1 B=$'\\xff' env -i A=1 B=$'\\xff' PATH=$PATH cargo search environment | grep -azc $'^B=\\xff$'",
        "1",
      ],
      ["no variable is lost", "X='a b' cargo search environment | tr '\\0' '\\n' | grep ^X=", "X=a b"],
      [
        "rustup is kept from downloading a toolchain, whoever says otherwise",
        "RUSTUP_AUTO_INSTALL=1 cargo search environment | tr '\\0' '\\n' | grep ^RUSTUP_AUTO",
        "RUSTUP_AUTO_INSTALL=0",
      ],
      ["ignored signals", "diff <(grep SigIgn /proc/$$/status) <(cargo search signals) && echo same", "same"],
      ["the limit of open files", "ulimit -Sn 300; cargo search files; true", /^300\n/],
      ["a descriptor", "cargo search descriptor 7< <(echo seven)", "seven"],
      ["standard input", "echo hello | cargo search input", "hello"],
      ["exit status 3", "cargo search exit 3; echo $?", "3"],
      ["exit status 255", "cargo search exit 255; echo $?", "255"],
      ["SIGTERM", "{ cargo search die TERM; echo $?; } 2>/dev/null", "143"],
      ["SIGKILL", "{ cargo search die KILL; echo $?; } 2>/dev/null", "137"],
      ["the process itself", "bash -c 'echo $$; exec cargo search pid' | uniq | wc -l", "1"],
      ["a reader that goes away", "set -o pipefail; apt list 2>/dev/null | head -1; true", "Listing..."],
      ["apt-get's own failure", "apt-get -s install no-such-package 2>/dev/null >&2; echo $?", "100"],
      ["what apt's own timers ask", "apt-get check >/dev/null; echo $?", "0"],
    ];
    for (const [what, script, out] of CASES)
      test(what, async () => {
        const { stdout, stderr } = await sh(script);
        expect({ stderr, stdout: stdout.trim() }).toEqual({
          stderr: "",
          stdout: typeof out === "string" ? out : expect.stringMatching(out),
        });
      });
    test("a maintainer script's call", async () =>
      expect((await sh("cargo install words x", { DPKG_MAINTSCRIPT_NAME: "postinst" })).stdout).toContain(
        "<install><words>",
      ));
    test("the terminal", async () => {
      const { status, stdout } = await chain.host.exec(
        ["script", "-qec", "cargo search terminal", "/dev/null"],
        {
          stdin: "typed\n",
        },
      );
      expect(stdout).toMatch(/\/dev\/pts\/\d+[\s\S]*read typed/);
      expect(status).toBe(0);
    });
  });

  test("Aegis itself never meets them: a package goes the whole way", async () => {
    await chain.startDaemon();
    const { path } = await chain.signed("apt", "install", "hello-aegis");
    const { status, stderr } = await chain.apply(path, "alice");
    expect({ status, refused: stderr.includes("was not run") }).toEqual({ status: 0, refused: false });
    expect(await chain.dpkgStatus("hello-aegis")).toBe("install ok installed");
    const { stdout } = await sh("aegis doctor --json");
    expect(stdout).not.toContain("/usr/local/bin/apt");
  });
  test("nor after an upgrade has put another file under the name", async () => {
    await sh(
      "cp /usr/local/bin/aegis /tmp/old; cp /tmp/old /usr/local/bin/new; mv /usr/local/bin/new /usr/local/bin/aegis",
    );
    const { stdout } = await sh("/tmp/old plan apt install hello-aegis=1.0 --json");
    expect(JSON.parse(stdout).plan).toMatchObject({ metadata_available: true, nothing_to_do: true });
  });
});
