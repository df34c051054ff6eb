import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import type { WrapperName } from "../src/eco-names.ts";
import { judge } from "../src/wrap-judge.ts";
import { startHost, type ThrowawayHost } from "./throwaway.ts";
import { pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";
import { callsOf } from "./wrapper-kit.ts";

/*
 * Each package manager's own parser against the wrapper's table: whatever is let through is run for real, on a throw-away
 * host where a change would succeed and show. A program that isn't on this machine is said to be left out.
 */

/** How many calls of each program. `WRAPPER_CALLS=400 bun test …` for a longer run. */
const CALLS = Number(process.env["WRAPPER_CALLS"] ?? 40);

/** Where the machine's tools may be, beside the system directories. */
const PATH = `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${process.env["PATH"] ?? ""}`;

/** Runs the calls in /srv/calls and prints the name of each that changed what STATE prints, and the first change. */
const RUNNER = `#!/bin/bash
before=$(eval "$STATE")
for call in /srv/calls/*; do
  mapfile -d '' -t words <"$call"
  yes 2>/dev/null | (cd /srv/work && timeout -k 1 20 "\${words[@]}") >"/srv/out" 2>&1
  after=$(eval "$STATE")
  if [ "$before" != "$after" ]; then
    echo "$(basename "$call") $(diff <(echo "$before") <(echo "$after") | grep -m1 '^[<>] .')"
    before=$after
  fi
done
`;

interface Real {
  program: WrapperName;
  targets: readonly string[];
  env: Readonly<Record<string, string>>;
  /** A command whose output changes when a call has changed something. */
  state: string;
  files: Readonly<Record<string, string>>;
  /** Calls that do change something: so that the test is known to notice. */
  control: readonly string[];
}

const APT_STATE = [
  "sha256sum /var/lib/dpkg/status /var/lib/apt/extended_states /var/log/dpkg.log /var/log/apt/history.log",
  "find /var/cache/apt/archives /var/lib/apt/lists /etc/apt /srv/work -type f ! -name lock -printf '%p %s %T@\\n' | sort",
].join("; ");
const TREE =
  "find /srv/work /srv/home /srv/target -type f -printf '%p %s\\n' | grep -v -e /.npm/ -e /.cache/ -e telemetry | sort";
const RAN = "touch /srv/work/RAN-$RANDOM";

const REAL: readonly Real[] = [
  ...(["apt", "apt-get"] as const).map(
    (program): Real => ({
      program,
      targets: ["hello-aegis", "openssh-aegis"],
      env: {},
      state: APT_STATE,
      files: { "/etc/apt/apt.conf.d/99yes": 'APT::Get::Assume-Yes "true";\n' },
      control:
        program === "apt"
          ? ["-s", "search", "install", "hello-aegis"]
          : ["install", "--reinstall", "hello-aegis"],
    }),
  ),
  {
    program: "npm",
    targets: ["/srv/package", "hello-x"],
    env: {
      npm_config_prefix: "/srv/target",
      npm_config_registry: "http://127.0.0.1:9/",
      npm_config_fetch_retries: "0",
      npm_config_update_notifier: "false",
    },
    state: TREE,
    files: {
      "/srv/package/package.json": '{"name":"hello-x","version":"1.0.0"}',
      "/srv/work/package.json": JSON.stringify({
        name: "work",
        version: "1.0.0",
        scripts: { test: RAN, start: RAN, stop: RAN, "hello-x": RAN },
      }),
    },
    control: ["install", "/srv/package"],
  },
  {
    program: "pip",
    targets: ["/srv/package", "hello-x"],
    env: {
      PIP_TARGET: "/srv/target",
      PIP_NO_INDEX: "1",
      PIP_NO_BUILD_ISOLATION: "1",
      PIP_DISABLE_PIP_VERSION_CHECK: "1",
      // pip asks rustc for its version, and rustup then writes settings.
      RUSTUP_HOME: "/srv/rustup",
    },
    state: TREE,
    files: {
      "/srv/package/setup.py":
        'import random\nopen(f"/srv/work/RAN-{random.random()}", "w")\nfrom setuptools import setup\nsetup(name="hello-x", version="1")\n',
    },
    control: ["install", "/srv/package"],
  },
  {
    program: "go",
    targets: [".", "GOPROXY"],
    env: { GOPROXY: "off", GOENV: "/srv/home/env", GOPATH: "/srv/home/go", GOCACHE: "/srv/cache" },
    state: TREE,
    files: {
      "/srv/work/go.mod": "module x.test/x\n\ngo 1.20\n",
      "/srv/work/x.go": "package main\nfunc main() {}\n",
    },
    control: ["env", "-w", "GOPROXY=direct"],
  },
  {
    program: "cargo",
    targets: ["hello-x"],
    env: { CARGO_HOME: "/srv/cargo", CARGO_NET_OFFLINE: "true", RUSTUP_HOME: "/root/.rustup" },
    state: TREE,
    files: {
      "/srv/work/Cargo.toml": '[package]\nname = "hello-x"\nversion = "1.0.0"\nedition = "2021"\n',
      "/srv/work/src/main.rs": "fn main() {}\n",
    },
    control: ["generate-lockfile"],
  },
];

/** Different calls that the wrapper lets through. Words with NUL can't be words of a process. */
function letThrough(name: WrapperName, targets: readonly string[], count: number): string[][] {
  const found = new Map<string, string[]>();
  for (let round = 0; round < 200 && found.size < count; round++) {
    for (const words of fc.sample(callsOf(name, targets), 500)) {
      if (!words.join("").includes("\0") && judge(name, words).does === "pass")
        found.set(JSON.stringify(words), words);
    }
  }
  return [...found.values()].slice(0, count);
}

const has = (program: string) => Bun.which(program, { PATH }) !== null;

describeOnThrowaway("the real parsers", () => {
  let host: ThrowawayHost;
  beforeAll(async () => {
    host = await startHost();
    await host.repo.publish(pick("hello-aegis=1.0", "openssh-aegis=1.0", "openssh-aegis=1.1"));
    await host.aptUpdate();
    await host.aptInstall("openssh-aegis=1.0");
    host.write("/srv/run", RUNNER, 0o755);
  });
  afterAll(() => host.stop());

  /** The calls that changed something. */
  async function changing(real: Real, calls: readonly string[][]): Promise<string[]> {
    await host.exec([
      "sh",
      "-c",
      "rm -rf /srv/calls /srv/work /srv/home /srv/target; mkdir -p /srv/work /srv/home /srv/target",
    ]);
    for (const [path, text] of Object.entries(real.files)) host.write(path, text);
    for (const [i, words] of calls.entries())
      host.write(`/srv/calls/${i}`, [real.program, ...words].map((word) => `${word}\0`).join(""));
    const env = { PATH, HOME: "/srv/home", STATE: real.state, ...real.env };
    const { stdout } = await host.exec(["/srv/run"], { env, timeoutMs: 30_000 + calls.length * 20_000 });
    return stdout.split("\n").flatMap((line) => {
      const [i, ...change] = line.split(" ");
      return line === "" ? [] : [`${JSON.stringify(calls[Number(i)])}: ${change.join(" ")}`];
    });
  }

  for (const real of REAL) {
    if (!has(real.program)) process.stderr.write(`\nLEFT OUT: ${real.program} is not on this machine\n\n`);
    test.skipIf(!has(real.program))(
      `${real.program}: what is let through changes nothing`,
      async () => {
        expect(await changing(real, letThrough(real.program, real.targets, CALLS))).toEqual([]);
        expect(await changing(real, [[...real.control]])).toHaveLength(1);
      },
      CALLS * 25_000,
    );
  }

  if (!has("docker")) process.stderr.write("\nLEFT OUT: docker is not on this machine\n\n");
  test.skipIf(!has("docker"))(
    "docker: what is let through only asks its engine",
    async () => {
      const asked: string[] = [];
      const engine = Bun.serve({
        port: 0,
        hostname: "127.0.0.1",
        fetch(request) {
          asked.push(`${request.method} ${new URL(request.url).pathname}`);
          return new Response(request.url.endsWith("/json") ? "[]" : "{}", {
            headers: { "Api-Version": "1.47", "Content-Type": "application/json" },
          });
        },
      });
      const real: Real = {
        program: "docker",
        targets: ["hello-x"],
        env: { DOCKER_HOST: `tcp://127.0.0.1:${engine.port}` },
        state: TREE,
        files: {},
        control: [],
      };
      expect(await changing(real, letThrough("docker", real.targets, CALLS))).toEqual([]);
      expect(asked.filter((line) => !/^(?:GET|HEAD) /.test(line))).toEqual([]);
      await changing(real, [["pull", "hello-x"]]);
      expect(asked.filter((line) => !/^(?:GET|HEAD) /.test(line))).not.toEqual([]);
      await engine.stop(true);
    },
    CALLS * 25_000,
  );
});
