import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { passOver } from "../src/feeds.ts";
import { feedSettings } from "../src/feeds-settings.ts";
import type { Log } from "../src/log.ts";
import { SYSTEM } from "../src/paths.ts";
import { zip } from "../test/archive-kit.ts";
import { startHost, type ThrowawayHost, throwawayUnavailable } from "../test/throwaway.ts";
import { startRepository } from "../test/throwaway-repo.ts";
import { BINARY, type Line, line, median, output } from "./bench-measure.ts";

/*
 * Planning an upgrade of 2,000 packages with all evidence: the sources' signatures, 50,000 vulnerability records in the host's own index,
 * running services, configuration files, disk, what is kept back. The reference is the one call that people would type. On a throw-away
 * copy of this machine, whose packages are 2,000 more.
 */

const PACKAGES = 2000;
const RECORDS = 50_000;
const NAME = "plan apt upgrade of 2,000 packages, with all evidence";
const QUIET: Log = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {} };

export async function upgrade(quick: boolean): Promise<Line[]> {
  const obstacle =
    throwawayUnavailable() ?? (Bun.which("time") === null ? "there is no /usr/bin/time" : null);
  if (obstacle !== null) return [{ name: NAME, not_measured: obstacle }];
  const dir = mkdtempSync(join(tmpdir(), "aegis-bench-"));
  const repo = await startRepository();
  const host = await startHost({ repo, binary: BINARY });
  try {
    const deb = join(dir, "one.deb");
    mkdirSync(join(dir, "root/DEBIAN"), { recursive: true });
    writeFileSync(
      join(dir, "root/DEBIAN/control"),
      "Package: one\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.invalid>\nDescription: one\n",
    );
    output(["dpkg-deb", "--root-owner-group", "--build", join(dir, "root"), deb]);
    const names = Array.from({ length: PACKAGES }, (_, i) => `bulk-${i}`);
    await repo.publish(
      names.map((name, i) => ({ name, version: "1.0-2", fields: { Source: `source-${i % 900}` }, deb })),
    );
    installed(host, names);
    await host.aptUpdate();
    await feeds(host, dir);
    const run = async (argv: readonly string[]) => {
      const begin = performance.now();
      const { status, stdout, stderr } = await host.exec(["/usr/bin/time", "-f", "%M kB", ...argv], {
        timeoutMs: 120_000,
      });
      if (status !== 0) throw new Error(`${argv.join(" ")}: ${status}\n${stderr}`);
      return { ms: performance.now() - begin, mb: Number(/(\d+) kB\s*$/.exec(stderr)?.[1]) / 1000, stdout };
    };
    const plan = ["/usr/local/bin/aegis", "plan", "apt", "upgrade", "--json"];
    const first = JSON.parse((await run(plan)).stdout) as {
      plan: { packages_upgraded: string[]; vulnerability_evidence: unknown[]; warnings: string[] };
    };
    const { packages_upgraded, vulnerability_evidence, warnings } = first.plan;
    if (packages_upgraded.length < PACKAGES)
      throw new Error(`${packages_upgraded.length}: ${warnings.join()}`);
    const [ours, bare]: [Awaited<ReturnType<typeof run>>[], Awaited<ReturnType<typeof run>>[]] = [[], []];
    const rounds = quick ? 3 : 7;
    for (let n = 0; n < rounds; n++) {
      ours.push(await run(plan));
      bare.push(await run(["apt-get", "-s", "upgrade"]));
    }
    const common = { samples: rounds, against: "apt-get -s upgrade" } as const;
    return [
      line({
        ...common,
        ...{ name: NAME, unit: "ms" },
        ours: median(ours.map(({ ms }) => ms)),
        reference: median(bare.map(({ ms }) => ms)),
        goal: { of: "ratio", at_most: 1.5 },
        note: `${packages_upgraded.length} packages, ${vulnerability_evidence.length} rows of vulnerability evidence, a plan of ${(JSON.stringify(first.plan).length / 1e6).toFixed(1)} MB`,
      }),
      line({
        ...common,
        ...{ name: `${NAME}: peak memory of a process`, unit: "MB" },
        ours: median(ours.map(({ mb }) => mb)),
        reference: median(bare.map(({ mb }) => mb)),
        goal: null,
      }),
    ];
  } finally {
    await host.stop();
    await repo.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Has dpkg believe that the older versions are installed, each with a dozen files and a configuration file. */
function installed(host: ThrowawayHost, names: readonly string[]): void {
  const stanzas = names.map(
    (name, i) =>
      `Package: ${name}\nStatus: install ok installed\nPriority: optional\nSection: misc\nInstalled-Size: 100\nMaintainer: x <x@example.invalid>\nArchitecture: all\nSource: source-${i % 900}\nVersion: 1.0-1\nConffiles:\n /etc/${name}.conf d41d8cd98f00b204e9800998ecf8427e\nDescription: throw-away package ${name}\n`,
  );
  host.write(
    "/var/lib/dpkg/status",
    `${host.read("/var/lib/dpkg/status").trimEnd()}\n\n${stanzas.join("\n")}`,
  );
  for (const name of names) {
    const files = Array.from({ length: 10 }, (_, n) => `/usr/share/${name}/file-${n}`);
    host.write(
      `/var/lib/dpkg/info/${name}.list`,
      `${["/.", "/etc", `/etc/${name}.conf`, ...files].join("\n")}\n`,
    );
    host.write(`/etc/${name}.conf`, "");
  }
}

/** The host's index of 50,000 records, made by Aegis's own pass over a loopback feed. */
async function feeds(host: ThrowawayHost, dir: string): Promise<void> {
  const records = Array.from({ length: RECORDS }, (_, i) => ({
    name: `DEBIAN-CVE-2024-${i + 1000}.json`,
    body: JSON.stringify({
      ...{ schema_version: "1.7.3", id: `DEBIAN-CVE-2024-${i + 1000}`, modified: "2026-11-20T10:11:12Z" },
      upstream: [`CVE-2024-${i + 1000}`],
      details: "An attacker could. ".repeat(20),
      affected: [
        {
          package: { ecosystem: "Debian:12", name: `source-${i % 8000}` },
          ranges: [
            { type: "ECOSYSTEM", events: [{ introduced: "0" }, { fixed: i % 3 === 0 ? "1.0-2" : "0.9-1" }] },
          ],
        },
      ],
    }),
  }));
  writeFileSync(join(dir, "all.zip"), zip(records));
  const server = Bun.serve({
    ...{ hostname: "127.0.0.1", port: 0 },
    fetch: () => new Response(Bun.file(join(dir, "all.zip"))),
  });
  try {
    mkdirSync(host.path(SYSTEM.feeds), { recursive: true });
    const off = { AEGIS_FEEDS_EPSS: "off", AEGIS_FEEDS_KEV: "off" };
    const settings = feedSettings(
      { AEGIS_FEEDS_OSV: server.url.href, ...off },
      () => 'ID=debian\nVERSION_ID="12"\n',
      () => false,
    );
    await passOver(
      { directory: host.path(SYSTEM.feeds), settings, now: () => new Date(), silenceMs: 60_000 },
      QUIET,
    );
  } finally {
    await server.stop(true);
  }
}
