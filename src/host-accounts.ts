import { SYSTEM } from "./paths.ts";
import { ADMIN_GROUP, type Directory, REVIEW_GROUP, STATE_DIRECTORIES, USERS } from "./sys-state.ts";

/*
 * Directories and accounts of a production host, as systemd makes them: tmpfiles.d(5), sysusers.d(5).
 */

export const SYSUSERS_FILE = "/etc/sysusers.d/aegis.conf";
export const TMPFILES_FILE = "/etc/tmpfiles.d/aegis.conf";

/** Every directory of a production host, parents first. */
export const HOST_DIRECTORIES: readonly Directory[] = [
  { path: SYSTEM.config, mode: 0o755, user: "root", group: "root" },
  ...STATE_DIRECTORIES,
  // Not by StateDirectory=, with which systemd would chown root's parent directories to the service's user too.
  { path: SYSTEM.reviewerState, mode: 0o700, user: USERS.reviewer, group: USERS.reviewer },
  { path: SYSTEM.notifierState, mode: 0o755, user: USERS.notify, group: USERS.notify },
  // For everybody to read: published data, which every user's planning looks at.
  { path: SYSTEM.feeds, mode: 0o755, user: USERS.feeds, group: USERS.feeds },
  { path: SYSTEM.reviewerAudit, mode: 0o700, user: USERS.reviewer, group: USERS.reviewer },
];

/** The tmpfiles.d text: systemd-tmpfiles creates the directories at boot and corrects their owners and modes. */
export function tmpfilesText(): string {
  const lines = HOST_DIRECTORIES.map(
    ({ path, mode, user, group }) => `d ${path} ${mode.toString(8).padStart(4, "0")} ${user} ${group} -`,
  );
  return `# Written by \`aegis daemon install\`.\n${lines.join("\n")}\n`;
}

/** The sysusers.d text: locked accounts without shell and home. */
export function sysusersText(): string {
  const users = [
    `u ${USERS.front} - "Aegis executor, the front"`,
    `u ${USERS.reviewer} - "Aegis reviewer"`,
    `u ${USERS.build} - "Aegis, tools with managed directories"`,
    `u ${USERS.fetch} - "Aegis, downloads of package files"`,
    `u ${USERS.notify} - "Aegis, notices of requests"`,
    `u ${USERS.feeds} - "Aegis, vulnerability data"`,
  ];
  const groups = [ADMIN_GROUP, REVIEW_GROUP].map((group) => `g ${group} -`);
  return `# Written by \`aegis daemon install\`.\n${[...groups, ...users].join("\n")}\n`;
}
