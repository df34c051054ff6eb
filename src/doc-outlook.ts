import * as v from "valibot";
import { count, name, names, short, text, timestamp } from "./doc-fields.ts";
import { RepositoryOffer } from "./doc-repository.ts";

/*
 * What planning sees besides the change: what will run old code, whether to reboot, what is asked of the disk. It is for the people
 * who decide. No rule reads it, and the executor compares nothing of it but what a repository offers, since processes and disks change
 * from minute to minute.
 */

/** A running unit that executes or maps files of packages that change. */
const RunningUnit = v.strictObject({
  /** `ssh.service`; `user-1000.slice` for the logins of a user; `(name)` for a process in no unit. */
  unit: short,
  /** Packages whose files it uses. */
  packages: v.pipe(v.array(name), v.minLength(1), v.maxLength(256)),
  /** Restarting it may cut off whoever does so: sshd, the network, D-Bus, logins. Null if it may be restarted. */
  risky: v.nullable(text),
});

const Services = v.strictObject({
  units: v.pipe(v.array(RunningUnit), v.maxLength(1000)),
  /** When the processes were looked at. Earlier than the plan where only the monitor, as root, could see them. */
  seen_at: timestamp,
  /** Processes that could not be looked into; they may use changed files too. */
  unseen: count,
});

/** Why only a reboot brings the new code: one sentence each, empty if none is needed. */
const Reboot = v.strictObject({ reasons: v.pipe(v.array(text), v.maxLength(16)) });

/**
 * A configuration file of a package that changes (dpkg's conffiles) that isn't as the installed version brought it, so that it is kept,
 * and a new one is put beside it; `unknown` where whoever plans may not read it.
 */
const ConfigurationFile = v.strictObject({
  package: name,
  path: short,
  state: v.picklist(["modified", "unknown"]),
});

/** What a file system must hold, in bytes. */
const Space = v.strictObject({ path: short, needed: count, available: count });

/** What is left to do after a run: the units that still execute files that it replaced, and why to reboot. */
export const Afterwards = v.strictObject({ services: Services, reboot: Reboot });
export type Afterwards = v.InferOutput<typeof Afterwards>;

export const Outlook = v.strictObject({
  services: v.optional(Services),
  reboot: v.optional(Reboot),
  configuration_files: v.optional(v.pipe(v.array(ConfigurationFile), v.maxLength(2000))),
  space: v.optional(v.pipe(v.array(Space), v.maxLength(8))),
  /** Packages that nothing needs any more afterwards, so that autoremove would take them. */
  unneeded: v.optional(names),
  /**
   * What a repository that is added offers; left out for those whose indexes could not be read. The executor refuses a plan that tells
   * less than it finds.
   */
  repository: v.optional(v.pipe(v.array(RepositoryOffer), v.maxLength(64))),
  /** Why each of packages_held_back is. */
  held_back: v.optional(v.pipe(v.array(v.strictObject({ package: name, why: text })), v.maxLength(2000))),
});
export type Outlook = v.InferOutput<typeof Outlook>;
