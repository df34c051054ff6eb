import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OperationPlan } from "../src/doc-plan.ts";
import { resolveProgram, SYSTEM_PATH } from "../src/sys-spawn.ts";
import { alternate, BINARY, type Line, line, median, output } from "./bench-measure.ts";

const [MODULE, VERSION] = ["golang.org/x/vuln", "v1.9.0"];
const TARGET = `${MODULE}/cmd/govulncheck@${VERSION}`;
const NAME = `plan go install ${TARGET}`;

/**
 * `aegis plan go install …` against `go list -m all`, both with an empty cache and through the same module proxy. go only makes the
 * module graph; Aegis also fetches every zip file, hashes it, looks into it, and proves every hash by the checksum database.
 */
export function planGo(quick: boolean): Line[] {
  const go = resolveProgram("go");
  if (go === null) return [{ name: NAME, not_measured: "no go command in a system directory" }];
  const dir = mkdtempSync(join(tmpdir(), "aegis-bench-"));
  try {
    const home = join(dir, "home");
    mkdirSync(home);
    const env = { LC_ALL: "C.UTF-8", PATH: SYSTEM_PATH.join(":"), HOME: home };
    let serial = 0;
    const ours = () => {
      const own = join(dir, `aegis-${++serial}`);
      const places = { XDG_DATA_HOME: own, XDG_CACHE_HOME: own };
      return output([BINARY, "plan", "go", "install", TARGET, "--json"], {
        cwd: home,
        env: { ...env, ...places },
      });
    };
    const bare = () => {
      const own = join(dir, `go-${++serial}`);
      mkdirSync(own);
      writeFileSync(join(own, "go.mod"), `module bench\n\ngo 1.17\n\nrequire ${MODULE} ${VERSION}\n`);
      const settings = { GOFLAGS: "-mod=mod -modcacherw", GOTOOLCHAIN: "local", GOPATH: join(own, "go") };
      return output([go, "list", "-m", "all"], { cwd: own, env: { ...env, ...settings } });
    };
    const { plan }: { plan: OperationPlan } = JSON.parse(ours());
    if (!plan.metadata_available) return [{ name: NAME, not_measured: plan.warnings.join("; ") }];
    const rounds = quick ? 3 : 7;
    const [a = [], b = []] = alternate(rounds, 1, [ours, bare]);
    return [
      line({
        name: NAME,
        unit: "ms",
        ours: median(a),
        reference: median(b),
        against: `go list -m all, ${output([go, "version"], { cwd: home, env }).trim()}; no caches`,
        note: `${plan.transaction.length} modules fetched and looked into, ${plan.support_files?.length ?? 0} files of the graph, all proven by the checksum database`,
        goal: { of: "ratio", at_most: 1.3 },
        samples: rounds,
      }),
    ];
  } catch (error) {
    return [
      { name: NAME, not_measured: error instanceof Error ? error.message.slice(0, 300) : String(error) },
    ];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
