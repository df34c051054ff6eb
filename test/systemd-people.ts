import { commandOf, type Handover, makeKeys, peopleOn } from "./handover-kit.ts";
import type { RootOf, SystemdHost } from "./systemd-container.ts";
import { bootSuite, install, mustExec } from "./systemd-kit.ts";
import type { Suite } from "./systemd-root.ts";

/*
 * The people of a hand-over on a real systemd, set up as an administrator does: accounts by useradd, the program by its own
 * installer, each key made by whoever it belongs to and enrolled by root.
 */

/** As test/hostile-front.ts knows it. */
export const AGENT_UID = 61010;

export interface People extends Handover {
  readonly host: SystemdHost;
}

/** Boots a container with Aegis running, and everybody's key trusted. */
export async function startPeople(suite: Suite, policy = "", rootOf?: RootOf): Promise<People> {
  const host = await bootSuite(suite, rootOf);
  try {
    return await setUpPeople(host, policy);
  } catch (error) {
    await host.stop();
    throw error;
  }
}

async function setUpPeople(host: SystemdHost, policy: string): Promise<People> {
  for (const [who, uid] of Object.entries({ agent: AGENT_UID, ops: AGENT_UID + 1 }))
    await mustExec(host, ["useradd", "--create-home", "--shell", "/bin/bash", "--uid", `${uid}`, who]);
  await install(host);
  for (const who of ["agent", "alice", "bob", "ops"])
    await mustExec(host, ["usermod", "--append", "--groups", "aegis-admin", who]);
  for (const { public_path } of await makeKeys(host))
    await mustExec(host, commandOf("root", ["sign", "trust", "add", public_path]));
  host.write("/etc/aegis/policy.toml", policy);
  await install(host);
  return peopleOn(host);
}

/** Installs packages of the distribution's archive by root's apt, without starting their services. */
export async function fromArchive(host: SystemdHost, ...packages: readonly string[]): Promise<void> {
  host.addDebian();
  await host.aptUpdate();
  // invoke-rc.d(8)
  host.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755);
  await mustExec(host, [
    ...["env", "DEBIAN_FRONTEND=noninteractive"],
    ...["apt-get", "install", "-y", "--no-install-recommends", ...packages],
  ]);
  await mustExec(host, ["rm", "/usr/sbin/policy-rc.d"]);
}
