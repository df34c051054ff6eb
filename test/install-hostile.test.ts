import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import type { InstallReport } from "../src/host-install.ts";
import { buildWhereNeeded, ROOT } from "./kit.ts";
import { needs } from "./needs.ts";
import { startHost, type ThrowawayHost, throwawayUnavailable } from "./throwaway.ts";

/*
 * What somebody may have prepared on a host before Aegis came: accounts, files and links at its places. Played with
 * --dry-run, which decides all of it; systemctl is a script that knows nothing.
 */

const obstacle = throwawayUnavailable();
const here = needs(obstacle === null, `a throw-away host (install-hostile.test.ts): ${obstacle}`);

here.describe("install, on a host that somebody has prepared", () => {
  let host: ThrowawayHost;
  const sh = (script: string) => host.exec(["bash", "-ec", script]);
  const dryRun = () => host.exec(["/root/aegis", "daemon", "install", "--dry-run", "--json"], {});

  beforeAll(async () => {
    buildWhereNeeded();
    host = await startHost({ binary: join(ROOT, "dist/aegis") });
    await sh(
      "cp /usr/local/bin/aegis /root/aegis; chmod 755 /root /usr/local/bin; mkdir -p /run/systemd/system",
    );
    host.write(
      "/usr/local/sbin/systemctl",
      '#!/bin/bash\n[ "$1" != --version ] || echo "systemd 252"\n',
      0o755,
    );
  }, 120_000);
  afterAll(() => host?.stop());

  const BINARY = "/usr/local/bin/aegis";
  test.each([
    ["of another user", `chown alice ${BINARY}`],
    ["that others may write", `chmod 777 ${BINARY}`],
    ["that the services can't start", `chmod 600 ${BINARY}`],
    ["that runs as root for everybody", `chmod 4755 ${BINARY}`],
    ["behind a link", `cp ${BINARY} /home/alice/aegis; ln -sf /home/alice/aegis ${BINARY}`],
  ])("the same program %s is replaced", async (_, prepare) => {
    await sh(`rm -f ${BINARY}; cp /root/aegis ${BINARY}; chmod 755 ${BINARY}; ${prepare}`);
    const { steps } = JSON.parse((await dryRun()).stdout) as InstallReport;
    expect(steps.find(({ what }) => what === BINARY)?.done).toMatch(
      /^replace (?:it|an unknown version|0\.\d)/,
    );
    await sh(`rm -f ${BINARY}; cp /root/aegis ${BINARY}; chmod 755 ${BINARY}`);
  });

  test("systemd that executes itself anew meanwhile is asked again", async () => {
    const lost = "Failed to get properties: Message recipient disconnected from message bus without replying";
    host.write(
      "/usr/local/sbin/systemctl",
      `#!/bin/bash\n[ "$1" != --version ] || exec echo "systemd 252"\n[ -e /run/asked ] || { touch /run/asked; echo "${lost}" >&2; exit 1; }\n`,
      0o755,
    );
    expect((await dryRun()).status).toBe(0);
    expect((await sh("test -e /run/asked")).status).toBe(0);
  });

  test("half a copy of the program that was left by an interrupted install is removed", async () => {
    const left = `/usr/local/bin/.aegis.${crypto.randomUUID()}.tmp`;
    await sh(`touch ${left}`);
    const { steps } = JSON.parse((await dryRun()).stdout) as InstallReport;
    expect(steps.map(({ done }) => done)).toContain(`remove ${left}`);
    await sh(`rm ${left}`);
  });

  test.each([
    [
      "an account that can log in",
      "useradd -s /bin/bash aegis-reviewd",
      "userdel aegis-reviewd",
      "can log in",
    ],
    [
      "an account that is root",
      "useradd -Mou 0 -g 0 aegis-reviewd",
      "sed -i /^aegis-reviewd/d /etc/passwd",
      "uid 0",
    ],
    [
      "a reviewer's key that others have read",
      "mkdir -p /etc/aegis; touch /etc/aegis/review-key; chmod 644 /etc/aegis/review-key",
      "rm /etc/aegis/review-key",
      "root alone can read",
    ],
  ])("%s is refused", async (_, prepare, undo, why) => {
    await sh(prepare);
    const { status, stdout } = await dryRun();
    await sh(undo);
    expect(status).toBe(6);
    expect(stdout).toContain(why);
  });
});
