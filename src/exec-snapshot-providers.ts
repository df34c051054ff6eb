import * as v from "valibot";
import { cannotLookUp, mountOf, type Snapshot, type SnapshotHost } from "./exec-snapshot-host.ts";
import type { LookedUpType } from "./exec-snapshot-id.ts";

/*
 * Looks up snapshots by provider. The ids were checked in exec-snapshot-id.ts.
 */

type LookUp = (id: string, host: SnapshotHost) => Promise<Snapshot> | Snapshot;

export const LOOK_UPS: Readonly<Record<LookedUpType, LookUp>> = {
  "btrfs-snapshot": btrfs,
  "snapper-snapshot": snapper,
  "lvm-snapshot": lvm,
  "zfs-snapshot": zfs,
};

/** A subvolume whose parent is one that holds a place. Whether a writable one was changed since is unknown. */
function btrfs(path: string, host: SnapshotHost): Snapshot {
  const found = host.subvolumeOf(path);
  if (found === null) throw cannotLookUp("there is no btrfs subvolume at that path");
  if (!found.isTop) throw cannotLookUp("that is a directory, not a subvolume");
  if (found.parentUuid === null) throw cannotLookUp("that is a subvolume, but not a snapshot");
  const origins = host.places.map((place) => ({ place, subvolume: host.subvolumeOf(place) }));
  const held = origins.filter(({ subvolume }) => subvolume?.uuid === found.parentUuid);
  const name = held[0]?.subvolume?.name;
  return {
    created: found.created,
    of: name === undefined ? "another subvolume" : name === "" ? "the top subvolume" : `subvolume ${name}`,
    holds: held.map(({ place }) => place),
  };
}

/**
 * snapper(8) keeps snapshot 42 of a btrfs at .snapshots/42/snapshot of the configuration's subvolume. Asks the subvolume
 * rather than snapper, whose list is a directory of XML files that prove nothing.
 */
function snapper(id: string, host: SnapshotHost): Snapshot {
  const [number = "", name = "root"] = id.split("/").reverse();
  const path = `/etc/snapper/configs/${name}`;
  const config = host.readText(path);
  if (config === null) throw cannotLookUp(`there is no ${path}`);
  const problem = host.rootOnlyProblem(path);
  if (problem !== null) throw cannotLookUp(problem);
  const value = (key: string) => new RegExp(`^${key}="([^"\\n]*)"$`, "m").exec(config)?.[1];
  const subvolume = value("SUBVOLUME");
  if (subvolume === undefined || !subvolume.startsWith("/")) {
    throw cannotLookUp(`${path} names no SUBVOLUME`);
  }
  if (value("FSTYPE") !== "btrfs") {
    throw cannotLookUp(`${path} is for a file system other than btrfs: name the volume itself, with lvm:`);
  }
  return btrfs(`${subvolume === "/" ? "" : subvolume}/.snapshots/${number}/snapshot`, host);
}

const LvsReport = v.object({
  report: v.pipe(
    v.array(
      v.object({
        lv: v.array(
          v.object({
            lv_name: v.string(),
            vg_name: v.string(),
            vg_uuid: v.string(),
            lv_time: v.pipe(v.string(), v.regex(/^\d{1,11}$/)),
            lv_attr: v.pipe(v.string(), v.regex(/^\S{10}$/)),
            origin: v.string(),
            origin_uuid: v.string(),
          }),
        ),
      }),
    ),
    v.length(1),
  ),
});

/** lvs(8). Sets the time format to seconds, whatever lvm.conf says. */
const LVS = [
  "--reportformat",
  "json",
  "--config",
  'report{time_format="%s"}',
  "-o",
  "lv_name,vg_name,vg_uuid,lv_time,lv_attr,origin,origin_uuid",
  "--",
] as const;

/** A thick or thin snapshot of the logical volume under the file system of a changed directory. */
async function lvm(id: string, host: SnapshotHost): Promise<Snapshot> {
  const [row, ...more] = parse(LvsReport, await host.run("lvs", [...LVS, id]), "lvs").report[0]?.lv ?? [];
  if (row === undefined || more.length > 0 || `${row.vg_name}/${row.lv_name}` !== id) {
    throw cannotLookUp("lvs does not list that volume");
  }
  const problem = lvmProblem(row);
  if (problem !== null) throw cannotLookUp(problem);
  // device-mapper's UUID of a volume is both ids joined (lvm2, dev_manager.c, UUID_PREFIX).
  const origin = `LVM-${`${row.vg_uuid}${row.origin_uuid}`.replaceAll("-", "")}`;
  return {
    created: new Date(Number(row.lv_time) * 1000),
    of: `${row.vg_name}/${row.origin}`,
    holds: host.places.filter((place) => volumeUnder(place, host) === origin),
  };
}

/** By the bits of lv_attr (lvs(8), NOTES): type, state, health. */
function lvmProblem({ origin, lv_attr }: { origin: string; lv_attr: string }): string | null {
  const [type, , , , state, , , , health] = lv_attr;
  if (origin === "" || (type !== "s" && type !== "V")) return "that is a volume, but not a snapshot";
  if (health !== "-") return `the volume is incomplete (lv_attr ${lv_attr})`;
  // A full thick snapshot is worthless, and only an active one shows whether it is full. Thin ones are usually inactive.
  if (type === "s" && state !== "a") return `the snapshot is full or not active (lv_attr ${lv_attr})`;
  return state === "h" ? "the volume was removed; only its history is left" : null;
}

/** The id of the LVM volume under a directory, looking through layers with one device below, such as dm-crypt; or null. */
function volumeUnder(place: string, host: SnapshotHost): string | null {
  const mount = mountOf(place, host.readText("/proc/self/mountinfo") ?? "");
  let directory = mount === null ? null : `/sys/dev/block/${mount.device}`;
  for (let depth = 0; directory !== null && depth < 8; depth++) {
    const uuid = host.readText(`${directory}/dm/uuid`)?.trim() ?? "";
    if (uuid.startsWith("LVM-")) return uuid;
    const [below, ...others]: readonly string[] = host.list(`${directory}/slaves`);
    directory = below === undefined || others.length > 0 ? null : `/sys/class/block/${below}`;
  }
  return null;
}

/** A snapshot of the dataset that a changed directory is on. zfs-get(8): -H no header and tabs, -p exact numbers. */
async function zfs(id: string, host: SnapshotHost): Promise<Snapshot> {
  const output = await host.run("zfs", ["get", "-Hp", "-o", "name,property,value", "type,creation", id]);
  const properties = new Map(
    output
      .split("\n")
      .map((line) => line.split("\t"))
      .filter(([name]) => name === id)
      .map(([, property = "", value = ""]) => [property, value]),
  );
  if (properties.get("type") !== "snapshot") throw cannotLookUp("zfs does not call that a snapshot");
  const creation = properties.get("creation") ?? "";
  if (!/^\d{1,11}$/.test(creation)) throw cannotLookUp("zfs does not say when it was made");
  const [dataset = ""] = id.split("@", 1);
  const mountinfo = host.readText("/proc/self/mountinfo") ?? "";
  return {
    created: new Date(Number(creation) * 1000),
    of: `dataset ${dataset}`,
    holds: host.places.filter((place) => {
      const mount = mountOf(place, mountinfo);
      return mount?.type === "zfs" && mount.source === dataset;
    }),
  };
}

function parse<S extends v.GenericSchema>(schema: S, text: string, program: string): v.InferOutput<S> {
  let tree: unknown;
  try {
    tree = JSON.parse(text);
  } catch {
    tree = null;
  }
  const parsed = v.safeParse(schema, tree, { abortEarly: true });
  if (!parsed.success) throw cannotLookUp(`${program} printed unexpected output`);
  return parsed.output;
}
