import { type Settings, setScalar } from "./apt-settings.ts";
import { AegisError } from "./errors.ts";

/*
 * What planning and the run have in common: the host's settings without those that would make the two differ, let apt work
 * without dpkg's lock, or end a run that has been used up. Each was tried on a host with apt 2.6.
 */

/**
 * Never carried over:
 * - the name of the program which dumped, what was meant for another program, and where files were read from;
 * - what is for apt's developers: without dpkg's lock, with dpkg's command line shown in place of dpkg, with nothing
 *   downloaded (`Debug`), with packages left unconfigured (`PackageManager`);
 * - what makes apt show its help or version in place of working, or dump and show in another form;
 * - packages from files on the command line, another digest than the index has, and descriptors that nobody opens.
 */
const DROPPED =
  /^(?:Binary|CommandLine|Debug|EDSP|EIPP|Help|OrderList|PackageManager|Version|Acquire::ForceHash|APT::(?:Cache|Cmd|Config|Keep-Fds|Sources|Status-deb822-Fd|System))(?:$|::)/i;

/**
 * What apt-get applies to itself after every file: its `Binary::` block, and from apt 3.1 on the `Version::` blocks up to its own
 * level, which is below 1. apt's own blocks for other programs begin with `Version::1.1` and are in every dump.
 */
const OVERRIDING = /^(?:Binary::apt-get(?:$|::)|Version::(?![1-9]\d*\.\d+(?:$|::)))/i;

/** What a simulation and a run have to agree on, whatever the host says. */
const PINNED: Readonly<Record<string, string>> = {
  "Dir::Etc::main": "/dev/null",
  "Dir::Etc::parts": "/dev/null",
  "Dir::Bin::dpkg": "/usr/bin/dpkg",
  // In a unit with PrivateTmp apt believes it is in a chroot and ignores phasing.
  "Dir::Bin::ischroot": "/bin/false",
  // The hook compares packages while apt holds dpkg's lock, and only then.
  "Debug::NoLocking": "false",
  "APT::Get::Download-Only": "false",
  "APT::Get::Print-URIs": "false",
  "APT::Get::Download": "true",
  "APT::Get::Assume-No": "false",
  "APT::Get::Trivial-Only": "false",
  "APT::Get::Fix-Missing": "false",
  "APT::Get::Force-Yes": "false",
  "APT::Get::ReInstall": "false",
  // It would mark what was asked for as installed by itself, to be removed again some day.
  "APT::Get::Mark-Auto": "false",
  // The hook can't tell a purge from a removal.
  "APT::Get::Purge": "false",
  "APT::Get::AllowUnauthenticated": "false",
  "APT::Get::allow-remove-essential": "false",
  "APT::Get::Allow-Solver-Remove-Essential": "false",
  "APT::Get::AutomaticRemove": "false",
  "APT::Get::Show-Versions": "false",
  // Else apt removes an essential package for a moment where it finds no other order.
  "APT::Force-LoopBreak": "false",
  "APT::Color": "false",
  // At 2 apt no longer says what it keeps back, and its lists have another form from output version 30 on.
  quiet: "1",
  "APT::Output-Version": "0",
  "APT::Get::List-Columns": "false",
};

/**
 * The host's settings as far as they count, and ours behind them.
 * @throws AegisError `refused` where the host overrides settings for apt-get alone, since apt applies those after
 * every file and they could not be held ({@link OVERRIDING})
 */
export function pinnedSettings(host: Settings): Settings {
  for (const [key, values] of host) {
    if (OVERRIDING.test(key) && values.some((value) => value !== "")) {
      throw new AegisError(
        "refused",
        `apt is configured with ${key}, which wins over everything Aegis sets`,
        "Remove it from /etc/apt/apt.conf.d.",
      );
    }
  }
  const settings: Settings = new Map([...host].filter(([key]) => !DROPPED.test(key)));
  for (const [key, value] of Object.entries(PINNED)) setScalar(settings, key, value);
  return settings;
}
