import { type Settings, setScalar } from "./apt-settings.ts";
import { AegisError } from "./errors.ts";

/*
 * Settings common to planning and running: the host's, without those that would make the two differ, let apt work
 * without dpkg's lock, or waste a run. Each was tested with apt 2.6.
 */

/**
 * Host settings never used:
 * - the name of the dumping program, settings for other programs, and where files were read from;
 * - debugging settings: no dpkg lock, printing dpkg's command line instead of running it, no download (`Debug`),
 * leaving packages unconfigured (`PackageManager`);
 * - settings that make apt show its help or version, or dump or print in another form;
 * - packages from files on the command line, a digest other than the index's, and descriptors nobody opens.
 */
const DROPPED =
  /^(?:Binary|CommandLine|Debug|EDSP|EIPP|Help|OrderList|PackageManager|Version|Acquire::ForceHash|APT::(?:Cache|Cmd|Config|Keep-Fds|Sources|Status-deb822-Fd|System))(?:$|::)/i;

/**
 * Settings apt-get applies after every file: its `Binary::` block and, from apt 3.1 on, the `Version::` blocks up to
 * its own level, which is below 1. apt's own blocks for other programs start at `Version::1.1` and are in every dump.
 */
const OVERRIDING = /^(?:Binary::apt-get(?:$|::)|Version::(?![1-9]\d*\.\d+(?:$|::)))/i;

/** Settings that a simulation and a run must share, whatever the host's. */
const PINNED: Readonly<Record<string, string>> = {
  "Dir::Etc::main": "/dev/null",
  "Dir::Etc::parts": "/dev/null",
  "Dir::Bin::dpkg": "/usr/bin/dpkg",
  // In a unit with PrivateTmp apt thinks it is in a chroot and ignores phasing.
  "Dir::Bin::ischroot": "/bin/false",
  // The hook relies on apt holding dpkg's lock.
  "Debug::NoLocking": "false",
  "APT::Get::Download-Only": "false",
  "APT::Get::Print-URIs": "false",
  "APT::Get::Download": "true",
  "APT::Get::Assume-No": "false",
  "APT::Get::Trivial-Only": "false",
  "APT::Get::Fix-Missing": "false",
  "APT::Get::Force-Yes": "false",
  "APT::Get::ReInstall": "false",
  // It would mark requested packages as automatically installed, to be removed some day.
  "APT::Get::Mark-Auto": "false",
  // The hook can't tell a purge from a removal.
  "APT::Get::Purge": "false",
  "APT::Get::AllowUnauthenticated": "false",
  "APT::Get::allow-remove-essential": "false",
  "APT::Get::Allow-Solver-Remove-Essential": "false",
  "APT::Get::AutomaticRemove": "false",
  "APT::Get::Show-Versions": "false",
  // Otherwise apt temporarily removes an essential package if it finds no other order.
  "APT::Force-LoopBreak": "false",
  "APT::Color": "false",
  // At 2 apt no longer lists what it keeps back; from output version 30 on its lists have another form.
  quiet: "1",
  "APT::Output-Version": "0",
  "APT::Get::List-Columns": "false",
};

/**
 * The host's settings, filtered, followed by ours.
 * @throws AegisError `refused` if the host overrides settings for apt-get alone: apt applies those after every file, so
 * ours could not win ({@link OVERRIDING})
 */
export function pinnedSettings(host: Settings): Settings {
  for (const [key, values] of host) {
    if (OVERRIDING.test(key) && values.some((value) => value !== "")) {
      throw new AegisError(
        "refused",
        `apt is configured with ${key}, which overrides everything Aegis sets`,
        "Remove it from /etc/apt/apt.conf.d.",
      );
    }
  }
  const settings: Settings = new Map([...host].filter(([key]) => !DROPPED.test(key)));
  for (const [key, value] of Object.entries(PINNED)) setScalar(settings, key, value);
  return settings;
}
