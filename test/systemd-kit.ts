import { describe, test } from "bun:test";
import { join } from "node:path";
import { type Chain, chainOn } from "./e2e-kit.ts";
import { ROOT } from "./kit.ts";
import { type RootOf, type SystemdHost, startSystemd, systemdUnavailable } from "./systemd-container.ts";
import { SUITES, type Suite } from "./systemd-root.ts";
import type { PackageDefinition } from "./throwaway-packages.ts";

/*
 * Shared by the tests on a real systemd. Each file has its own container: alice, a member of aegis-admin, plans, signs
 * and submits; bob approves; root installs and looks after the host.
 */

const wanted = process.env["AEGIS_E2E_SUITES"]?.split(" ") ?? ["bookworm"];

/** `describe` once for each suite that AEGIS_E2E_SUITES names, bookworm by default; where it can't boot, one skipped test. */
export function describeOnSystemd(name: string, tests: (suite: Suite) => void, rootOf?: RootOf): void {
  for (const suite of SUITES.filter((known) => wanted.includes(known))) {
    const reason = systemdUnavailable(suite, rootOf);
    if (reason === null) {
      describe(`${suite}, ${name}`, () => tests(suite));
      continue;
    }
    process.stderr.write(`\nSKIPPED for want of a real systemd: ${suite}, ${name}: ${reason}\n\n`);
    test.skip(`${suite}, ${name}`, () => {});
  }
}

export interface Production extends Chain {
  readonly host: SystemdHost;
}

/** A container with nothing of Aegis but the binary, in /root. */
export function bootSuite(suite: Suite, rootOf?: RootOf): Promise<SystemdHost> {
  return startSystemd(suite, join(ROOT, "dist/aegis"), rootOf);
}

/** A container on which Aegis is installed and running; see `setUp`. */
export async function startProduction(suite: Suite, rootOf?: RootOf): Promise<Production> {
  const host = await bootSuite(suite, rootOf);
  try {
    return await setUp(host);
  } catch (error) {
    await host.stop();
    throw error;
  }
}

/** Installs Aegis from the binary, makes alice an administrator, trusts her key and bob's, and starts the services. */
export async function setUp(host: SystemdHost): Promise<Production> {
  await install(host);
  await mustExec(host, ["usermod", "--append", "--groups", "aegis-admin", "alice"]);
  const chain = await chainOn(host, { signer: "alice", approver: "bob" });
  await install(host);
  return { ...chain, host };
}

/** `aegis daemon install`, from the copied binary. */
export async function install(host: SystemdHost): Promise<void> {
  await mustExec(host, ["/root/aegis", "daemon", "install"]);
}

/** Runs a command to its end and returns its standard output; throws with its output when it fails. */
export async function mustExec(host: SystemdHost, argv: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await host.exec(argv, { timeoutMs: 120_000 });
  if (status !== 0) throw new Error(`${argv.join(" ")} failed (${status}):\n${stdout}${stderr}`);
  return stdout;
}

/** A package that is difficult to install in a hardened unit: it starts a service and has a setuid program. */
export const SERVED: PackageDefinition = {
  name: "served",
  version: "1.0",
  files: {
    "/usr/lib/systemd/system/served.service":
      "[Service]\nExecStart=/usr/bin/served\n[Install]\nWantedBy=multi-user.target\n",
    "/usr/bin/served": "#!/bin/sh\nexec sleep infinity\n",
    "/usr/bin/setuid-served": "#!/bin/sh\nid\n",
  },
  modes: { "/usr/bin/setuid-served": 0o4755 },
  control: {
    postinst: "#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl enable --now served.service\n",
  },
};

/** A package that restarts the service that installs it, as an upgrade of systemd or of Aegis would. */
export const RESTARTER: PackageDefinition = {
  name: "restarter",
  version: "1.0",
  control: {
    postinst:
      "#!/bin/sh\nset -e\nsystemctl daemon-reexec\nsystemctl restart aegisd.socket aegisd.service\necho said by restarter\n",
  },
};

/** Every way in which maintainer scripts, triggers and hooks stop services; `%` is the unit. */
export const WAYS_TO_STOP = [
  "systemctl restart %",
  "systemctl stop %",
  "systemctl try-restart %",
  "systemctl reload-or-restart %",
  "systemctl try-reload-or-restart %",
  "deb-systemd-invoke restart %",
  "deb-systemd-invoke stop %",
  "invoke-rc.d --quiet % restart",
  "service % restart",
] as const;

/** A package that stops its own runner in all these ways, and writes output and exit status of each to /run/stopper. */
export const STOPPER: PackageDefinition = {
  name: "stopper",
  version: "1.0",
  control: {
    postinst: `#!/bin/sh
unit=$(systemctl list-units --plain --no-legend 'aegis-runner@*' | cut -d' ' -f1 | head -n 1)
echo "unit $unit" >/run/stopper
${WAYS_TO_STOP.map((way) => `${way.replace("%", '"$unit"')} >>/run/stopper 2>&1; echo "$? ${way}" >>/run/stopper`).join("\n")}
systemctl restart aegis-runner.socket >>/run/stopper 2>&1; echo "$? the socket" >>/run/stopper
exit 0
`,
  },
};

/** A package that stops the runner's slice: its units are stopped by dependency, which no unit can refuse. */
export const SLICE_STOPPER: PackageDefinition = {
  name: "slice-stopper",
  version: "1.0",
  control: {
    postinst: "#!/bin/sh\nsystemctl stop 'system-aegis\\x2drunner.slice'\necho \"$?\" >/run/slice-stopper\n",
  },
};

/** Command lines that ran more than once, by apt's history. Each test installs different packages. */
export function ranTwice({ host }: Production): string[] {
  const history = host.read("/var/log/apt/history.log");
  const lines = [...history.matchAll(/^Commandline: (.*)$/gm)].map(([, line]) => line ?? "");
  return lines.filter((line, n) => lines.indexOf(line) !== n).map((line) => `ran twice: ${line}`);
}
