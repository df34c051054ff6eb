import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OperationPlan } from "../src/doc-plan.ts";
import { SYSTEM_PATH } from "../src/sys-spawn.ts";
import { alternate, BINARY, type Line, line, median, output } from "./bench-measure.ts";

/*
 * `aegis plan apt install hello` against the apt calls that the plan lists, run directly one after another. Aegis does more:
 * it checks the signatures of the sources, writes documents and audits them.
 */

const NAME = "plan apt install hello";
const PATH = SYSTEM_PATH.join(":");

/** On the host as it is; where its apt has no binary cache (container images), also with the cache switched on. */
export function plan(quick: boolean): Line[] {
  const cached = /^Dir::Cache::pkgcache "..*";$/m.test(output(["apt-config", "dump"]));
  if (cached) return [measure(quick)];
  const own = { ...measure(quick), name: `${NAME}, no binary cache` };
  const name = `${NAME}, with apt's binary cache`;
  if (process.getuid?.() !== 0) return [own, { name, not_measured: "only root can give apt one here" }];
  return [own, { ...withCache(quick), name }];
}

function measure(quick: boolean): Line {
  const dir = mkdtempSync(join(tmpdir(), "aegis-bench-"));
  try {
    const [home, config] = [join(dir, "home"), join(dir, "apt.conf")];
    mkdirSync(home);
    writeFileSync(config, 'Dir::Bin::ischroot "/bin/false";\n');
    const language = { LANG: "C.UTF-8", LC_ALL: "C.UTF-8" };
    const ours = () =>
      output([BINARY, "plan", "apt", "install", "hello", "--json"], {
        cwd: home,
        env: { ...language, PATH, HOME: home, XDG_DATA_HOME: `${dir}/data`, XDG_CACHE_HOME: `${dir}/cache` },
      });
    const { plan: made }: { plan: OperationPlan } = JSON.parse(ours());
    if (!made.metadata_available) return { name: NAME, not_measured: made.warnings.join("; ") };
    const calls = made.raw_evidence.commands
      .map(({ argv }) => argv)
      .filter(([program]) => program?.startsWith("apt-"));
    const bare = () => {
      for (const argv of calls) {
        output(argv, {
          cwd: home,
          env: { ...language, PATH, HOME: home, PYTHONSAFEPATH: "1", APT_CONFIG: config },
        });
      }
    };
    const rounds = quick ? 3 : 7;
    const [a = [], b = []] = alternate(rounds, 1, [ours, bare]);
    return line({
      name: NAME,
      unit: "ms",
      ours: median(a),
      reference: median(b),
      against: `its ${calls.length} apt calls, one by one`,
      goal: { of: "ratio", at_most: 1.1 },
      samples: rounds,
    });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** The same measurement in a separate mount namespace, where apt's cache directory is empty and its cache is on. */
function withCache(quick: boolean): Line {
  const dir = mkdtempSync(join(tmpdir(), "aegis-bench-"));
  try {
    cpSync("/etc/apt/apt.conf.d", dir, { recursive: true });
    writeFileSync(
      join(dir, "zzz-bench"),
      'Dir::Cache::pkgcache "pkgcache.bin";\nDir::Cache::srcpkgcache "srcpkgcache.bin";\n',
    );
    const script =
      'mount -t tmpfs tmpfs /var/cache/apt && mkdir -p /var/cache/apt/archives/partial && mount --bind "$1" /etc/apt/apt.conf.d && shift && exec "$@"';
    const again = [process.execPath, import.meta.path, ...(quick ? ["--quick"] : [])];
    return JSON.parse(output(["unshare", "--mount", "sh", "-c", script, "sh", dir, ...again]));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

if (import.meta.main) process.stdout.write(`${JSON.stringify(measure(process.argv.includes("--quick")))}\n`);
