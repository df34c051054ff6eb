import type { Block } from "./cmd-help-text.ts";

/** How documents are named, shown and handed over. */
export const DOCUMENTS: readonly Block[] = [
  "Plans, reviews, policy results, approvals and execution plans are JSON documents, kept under ~/.local/share/aegis. A command takes one by any of these names:",
  {
    terms: [
      ["`<path>`", "a file"],
      ["`<id>`", "its full id, or at least eight characters of it"],
      ["`latest`", "the newest one"],
      ["`-`", "standard input"],
    ],
  },
  "`sign`, `sign approve` and `apply` take no part of an id and no `latest`, since the document behind it could change between reading and deciding. `aegis sign <plan>` finds the plan's own policy result and review by its id.",
  "On a host with an executor a plan is handed over as a request, which the executor keeps for a day (`[requests] hours`); no file changes hands, and the approver plans again, however old the request is:",
  {
    lines: [
      'agent$ aegis apply --request <id> --reason "web server" --wait',
      "alice$ aegis sign inbox",
      "alice$ aegis sign approve 1          # or: aegis sign reject 1 --reason <why>",
    ],
  },
  "An approval counts for the plan that was approved, and for a later one that is the same change for the same reasons: host and boot, packages to the byte, evidence, serious vulnerabilities, decision and rules. Anything else needs a new one.",
  "Elsewhere documents change hands as files: `--out <file>` writes one elsewhere, mode 0600. A shared directory for people of one group:",
  {
    lines: [
      "root#  install -d -m 2770 -g aegis-admin /srv/changes",
      "agent$ aegis plan apt install hello --out hello.plan",
      "agent$ aegis policy hello.plan --out hello.policy   # exit 4: needs a person",
      "agent$ install -m 640 hello.plan hello.policy /srv/changes",
      "alice$ cd /srv/changes",
      'alice$ aegis sign approve --plan hello.plan --reason "wanted" \\',
      "         --out ~/hello.approval",
      "alice$ install -m 640 ~/hello.approval .",
      "ops$   cd /srv/changes",
      "ops$   aegis sign --plan hello.plan --policy hello.policy \\",
      "         --approval hello.approval --out ~/hello.execution",
      "ops$   install -m 640 ~/hello.execution .",
      "agent$ aegis apply /srv/changes/hello.execution",
    ],
  },
  "`Next, the approver, there: …` in an answer says whose command comes next; `there` is where the files were handed over.",
  'Standard output carries the result, standard error everything else. With `--json` every command prints one JSON document; failures are `{"error": {"code", "message", "hint"}}`. `--json --summary` prints a plan, and a decision about one, in at most 10 kB: whole, an upgrade of 150 packages is 190 kB. `aegis plan show <plan> --json --page <n>` prints what changes in pages of 10 kB, with the number of pages and of entries.',
  "Long plans and help texts go through `PAGER` (else `less -R`) on a terminal: a program of the system's own directories, started without a shell, with an environment in which less starts no other program. Under sudo it is always `less`. `PAGER=cat`, or an empty one: no pager.",
  "Text that others wrote (a plan's warnings, a Maintainer field, what a repository calls itself) is escaped and shortened, and stands behind a bar or a word of Aegis's own: it never begins a line.",
];

/** Removing, undoing and repairing. */
export const ROLLBACK: readonly Block[] = [
  "`aegis plan apt remove <package>…` plans a removal (configuration files stay), `aegis plan apt purge <package>…` one that takes them along, `aegis plan rollback <execution>` undoes an execution, and `aegis plan apt repair` finishes what an interrupted dpkg left (`dpkg --configure -a`). Each is an ordinary plan, which a person must approve, whatever the policy allows.",
  "`aegis plan services restart <unit>…` restarts services and sockets of systemd, so that what an earlier plan replaced is not run any longer. The plan names each unit that systemd restarts with those asked for (`Requires=`, `BindsTo=` and `PartOf=` of others), with the SHA-256 of the files that define it and since when it runs: where a unit file, a drop-in or the run is another one later, the executor refuses (exit status 9). It starts and stops nothing else, so that a unit that doesn't run, is masked, transient or forbids it is refused, and so is one whose files systemd has yet to read again (`systemctl daemon-reload`). sshd, the network, containers, databases and the like are named as risky; D-Bus, logins and graphical sessions are denied (`[services]` in `aegis help policy-file`). systemd makes the restart: where the executor stops waiting for it, after 30 minutes, it goes on. Afterwards each unit must be active in a new run. Without D-Bus only root can plan it, or approve a request for it on the host, since nobody else can ask systemd; what a unit reads besides its own files (EnvironmentFile=, its program and configuration) is not compared. A restart can't be rolled back.",
  {
    items: [
      "What was asked for, and what only goes along: a removal is asked for when a target of `apt remove` names that very package, and a removal or downgrade is when the record of the execution that is rolled back has it. Everything else that apt would remove or downgrade (a package that depends on the target, say) is denied unless the policy has `allow_removals` or `allow_downgrades`. The executor judges the same from its own plan and its own record: a plan can't claim it.",
      "The record is dpkg's state before and after each execution, `inverse` in its result file, so a run that failed or was killed halfway is undone by what it did. Name the execution by its id, eight characters of it, or `latest`; `aegis daemon status` lists ids. Planning needs to read the result file (root, members of aegis-admin). What has changed since is said in the plan, and undone all the same.",
      "A purge is denied for what is essential, and deletes for good: configuration, and what the packages' postrm scripts delete. It also takes what earlier removals left. `aegis plan apt autoremove` is what apt finds that nobody needs any more: only packages that apt has marked as automatically installed, by a person's approval; what was marked in between is drift. It names the kernels that stay. Nothing removes packages of the running kernel.",
      "`aegis plan apt upgrade --security` (the operation `security-upgrade`) takes each installed package to the newest version that the distribution's own security pocket offers, even where another source has a newer one: a source is one if the archive's key, or Ubuntu's own for extended maintenance, has signed its index, and if it is of this host's release; what others call themselves doesn't count. What is on hold, what apt's preferences forbid and what apt can't install together with the rest is named and left out. Packages that came as dependencies stay marked as such. `[apt] upgrade` decides, as for an upgrade.",
      "`aegis plan apt full-upgrade` may install and remove to upgrade others; a person decides, and removals are denied unless the policy has `allow_removals`.",
      "`aegis plan apt hold <package>…` and `unhold` change whether packages are on hold (`apt-mark`), of installed packages alone. Upgrades, security upgrades too, leave a package on hold as it is. The executor compares dpkg's selections before and after; the rollback of a hold is an unhold.",
      "A rollback that restores versions and removes packages is two plans: first the versions (`apt-get install -y --allow-downgrades <package=version>…`), then, by the same words once that has been applied, what is left to remove (`apt-get remove -y <package>…`).",
      "Where no source offers an old version any more, apt is given the package file that Aegis kept when it installed that version (/var/cache/aegis/kept; AEGIS_KEPT_MIB in aegisd.env bounds it, but what undoes the newest ten executions stays). Its SHA-256, which an execution had verified, is compared when it is planned, before the run and by the hook before unpacking. `rollback_plan` in each plan says of every old version whether sources offer it, only Aegis has it (`kept`), or nobody (`unobtainable`): then it is named, and the rest is not planned. Versions that came onto the host without Aegis are not kept: a source of apt's on a snapshot service offers them (`deb [check-valid-until=no] https://snapshot.debian.org/archive/debian/20260101T000000Z/ …`, and `[apt] snapshot_services` in the policy). An old version with a vulnerability that the policy denies is denied here too. A package that it installs again counts as installed by hand (`apt-mark`).",
      "npm, pip, go, cargo, nuget, vscode, podman: a rollback puts back what the execution replaced in the managed directory, file for file, in one step, with its commands in /var/lib/aegis/bin. Nothing is fetched and no tool runs: the signed command, `aegis rollback <ecosystem> <directory> <execution>`, is done by the executor itself and can't be typed. The plan has the digests of what is there and of what comes back, and the executor compares both with the directories before it exchanges them.",
      "It goes back one execution at a time, the newest first, and only where the directory holds exactly what that execution left; else the plan is refused and says which execution came after, or that something other than an execution changed the directory. The last three contents of each directory are kept; for an older one plan the earlier version by its name. A rollback can be rolled back in the same way, and that of a first installation leaves an empty directory.",
      "A person decides about such a rollback, whatever `apply` says: that setting, `minimum_age_days`, `allowed_registries` and `require_provenance` are about what is fetched. Known vulnerabilities of what comes back count. It is denied (`rollback-unverified`) where the earlier content did not come by executions alone, starting from an empty directory.",
      "A repair is bound to names, versions and states, not to bytes: it runs the maintainer scripts that dpkg has unpacked already. It waits for dpkg's lock, keeps the administrator's configuration files (`force-confold` in a private .dpkg.cfg; the host's own force options don't count), asks nothing, and is never stopped. What configuring can't mend, such as an unmet dependency, is said in the plan with the way out. Any user can plan a repair. As long as dpkg has packages half-done, the executor refuses other plans that would touch them, and nothing is used up.",
    ],
  },
];

/** Package repositories as plans. */
export const REPOSITORIES: readonly Block[] = [
  "A repository is one file below /etc/apt/sources.list.d, and a plan carries it to the byte: `aegis plan apt add-repository <name> --stanza <file.sources> --key <file.asc>` writes <name>.sources, `aegis plan apt remove-repository <name>` removes it, and `aegis plan rollback <execution>` brings back what was there. Each is for a person to approve, whatever the policy allows.",
  {
    lines: [
      "ops$   curl -fsSLO https://vendor.example/vendor.asc     # from where the vendor publishes it",
      "ops$   cat vendor.sources",
      "Types: deb",
      "URIs: https://vendor.example/debian",
      "Suites: stable",
      "Components: main",
      "ops$   aegis plan apt add-repository vendor --stanza vendor.sources --key vendor.asc",
    ],
  },
  {
    items: [
      "The stanza has `Types`, `URIs`, `Suites`, `Components` and `Architectures`, one line each, perhaps `Enabled: yes` and the key itself as `Signed-By`, and nothing else: an option that switches off a check (`Trusted`, `Allow-Insecure`, `Check-Valid-Until`, …) is refused, and so are unknown fields, characters other than plain ASCII, a value that goes on in the next line, a second stanza, a place on this host, mirror and tor transports, and an address with a password. The file is written anew from what was understood; comments don't come along.",
      "The key is one OpenPGP key, armored or binary, with exactly one primary key, and without secret parts. It is put into the file as `Signed-By`, so that file and key come and go in one rename; apt reads that since 2.3.10 (Debian 12, Ubuntu 22.04), and an older one is told. Compare the fingerprint with what the vendor publishes: the plan shows it in groups of four. A key that has expired or was revoked is denied; a weak one is told.",
      "Where the repository answers, its index is fetched at planning (through apt's proxy, without following redirects) and verified with exactly this key; one that does not verify, has expired or is of another suite is denied (`apt-repository-unverified`). Plain http is not fetched at planning, except from this host. Where it can't be fetched, a person is told that nobody has seen whether the key fits.",
      "A source that is configured already is not added again: apt refuses two entries for one source with different keys, and every update after that. The distribution's own files are not replaced or removed.",
      "The signed command is `aegis repository add <name> sha256:<file>` (`replace` and `remove` with the digest of the old file before it), done by the executor itself: a hidden file beside the old one, made durable, and renamed. Whenever it is killed, the old file is there or the new one, and the outcome says which. A file that was edited since the plan is left alone.",
      "Afterwards `aegis plan apt update` fetches its index. Its packages then count as a third party's with a pinned key: installing them is decided like any other install, and an upgrade may take newer versions of installed packages from it.",
      "The monitor takes a file that is as an execution left it for what it is, and reports an edit of it as `repository_drift`.",
    ],
  },
];
