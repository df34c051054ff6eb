import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type FakePlanning, fakePlanning } from "./apt-kit.ts";

/* systemd as the tests of restarts see it: recorded answers, with changes. */

type Facts = Readonly<Record<string, string>>;

/** systemd's own answers by the name that was asked for, as recorded in fixtures/systemd. */
export function recordedUnits(version: "249" | "259"): Record<string, Facts> {
  const text = readFileSync(join(import.meta.dir, `fixtures/systemd/show-${version}.txt`), "utf8");
  const asked = ["web.service", "web.socket", "part.service", "odd@a\\x2db.service", "once.service"];
  const names = [...asked, "barred.service", "cache.service", "nothing.service", "getty@tty9.service"];
  const blocks = text.trimEnd().split("\n\n");
  return Object.fromEntries(
    blocks.map((block, at) => [
      names[at] ?? "",
      Object.fromEntries(
        block.split("\n").map((line) => [line.split("=", 1)[0] ?? "", line.slice(line.indexOf("=") + 1)]),
      ),
    ]),
  );
}

/** A service that runs and depends on nothing. */
export function unitFacts(id: string, change: Facts = {}): Facts {
  return {
    ...{ Id: id, LoadState: "loaded", ActiveState: "active", SubState: "running", Type: "simple" },
    ...{
      InvocationID: "5d0b12d78a3f4c6c9e0f4b1c2d3e4f50",
      ActiveEnterTimestamp: "Mon 2026-11-30 19:41:02 UTC",
    },
    ...{ FragmentPath: `/usr/lib/systemd/system/${id}`, NeedDaemonReload: "no", Transient: "no" },
    ...change,
  };
}

/** Planning on a host with these units, by the names that they answer to; a file of each definition says which it is. */
export function unitPlanning(
  units: Readonly<Record<string, Facts>>,
  host: {
    files?: Record<string, string>;
    answer?: { status: number; stdout?: string; stderr?: string };
    isBooted?: boolean;
  } = {},
): FakePlanning {
  const files = Object.values(units).flatMap(({ FragmentPath = "" }) =>
    FragmentPath === "" ? [] : [[FragmentPath, `# ${FragmentPath}\n`]],
  );
  return fakePlanning({
    files: {
      ...(host.isBooted === false ? {} : { "/run/systemd/system": "" }),
      ...Object.fromEntries(files),
      ...host.files,
    },
    answers(command) {
      if (host.answer !== undefined) return host.answer;
      const [, asked = ""] = command.split(" -- ");
      const none = { Id: "", LoadState: "not-found", ActiveState: "inactive", SubState: "dead" };
      const blocks = asked.split(" ").map((name) =>
        Object.entries(units[name] ?? { ...none, Id: name })
          .map(([key, value]) => `${key}=${value}`)
          .join("\n"),
      );
      return { stdout: `${blocks.join("\n\n")}\n` };
    },
  });
}
