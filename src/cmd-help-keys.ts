import type { Block } from "./cmd-help-text.ts";
import { PROVIDERS } from "./exec-snapshot-id.ts";
import { SYSTEM } from "./paths.ts";

export const KEYS: readonly Block[] = [
  "Two kinds of Ed25519 key: an execution key signs execution plans, an approval key approves plans and is held by another person. `aegis sign keygen --role <role> --name <name>` writes the secret to `~/.config/aegis/<role>-key` (mode 0600; `$XDG_CONFIG_HOME/aegis` where that is set; elsewhere with `--out`) and the public part, with name and role, to `<role>-key.pub`, and prints the entry for the trusted keys. `sign` and `sign approve` use the key from there where no flag, variable or systemd credential gives one, and its name where the host trusts it under none. A key is never overwritten.",
  {
    lines: [
      "ops$   aegis sign keygen --role execution --name ops@example",
      "alice$ aegis sign keygen --role approval --name alice@example --encrypt",
      "root#  aegis sign trust add ~ops/.config/aegis/execution-key.pub",
      "root#  aegis sign trust add ~alice/.config/aegis/approval-key.pub",
    ],
  },
  "The secret is not encrypted unless `--encrypt` is given: services and scripts have nobody to ask. An approver's key belongs encrypted. `--encrypt` asks for a passphrase twice, on the terminal only (`/dev/tty`, or the terminal on standard input and standard error where a session has no controlling terminal, as after `su -c`); without a terminal no key is made. `sign` and `sign approve` ask for the passphrase at most three times; no flag, variable or standard input can supply it. A service can't unlock an encrypted key: systemd's `LoadCredentialEncrypted=` protects a service's key on disk.",
  `The executor under systemd trusts only the keys in ${SYSTEM.config}, each by its ids and under its owner's name. ${SYSTEM.trustedKeys} has one entry for each key:`,
  {
    lines: [
      "[[key]]",
      'id = "…"',
      'name = "ops@example"              # signs under this name only',
      'public_key_hex = "…"',
      'role = "execution"                # or "approval"',
      "not_before = 2026-01-01T00:00:00Z # optional",
      "not_after = 2027-01-01T00:00:00Z  # optional",
      "revoked = false",
      "break_glass = true                # optional: aegis help break-glass",
    ],
  },
  "An approver may use an OpenSSH key instead, of type `ssh-ed25519` or, in a FIDO2 security key, `sk-ssh-ed25519@openssh.com` (with `ssh_public_key` in place of `public_key_hex`, and only with the role approval). `--ssh-key` of `sign approve` and `sign reject` takes its file, or the .pub file of a key in the agent; ssh-keygen signs (`-Y sign`, namespace `approval@aegis`) and asks for PIN and touch.",
  {
    lines: [
      "alice$ ssh-keygen -t ed25519-sk -O verify-required -f ~/.ssh/approval",
      "root#  aegis sign trust add ~alice/.ssh/approval.pub --name alice@example --verify-required",
      "alice$ aegis sign approve 1 --ssh-key ~/.ssh/approval",
    ],
  },
  "What that changes: whoever works in the approver's account (an agent, malware) can read a software key or use an unlocked ssh-agent, and approve with it, on a terminal of their own. With a security key they can't: each approval has to state, signed by the key itself, that somebody touched it, and with `verify_required = true` that it checked a PIN or a fingerprint. A key made with `-O no-touch-required` is refused, as are keys of websites and passkeys that are copied between devices. What it doesn't change: the key can't show what is signed. Whoever works in that account can ask for a touch just when one is expected, so touch it only for the command that you typed, or approve from a machine where no agent works (`--via`). The key's counter is signed and not compared: that an approval is used only once is recorded by the executor.",
  "Ids of such a key are its fingerprint as `ssh-keygen -l` prints it, that of the Ed25519 key inside, and the entry's id. The same Ed25519 key is the same key in every form: a signer can't approve with theirs made into an SSH key.",
  "Without `--name` or `--role` keygen prints `<owner>` and `<role>` in their place; until both are filled in, the file and with it every plan is refused. Changes to the file need no restart.",
  "`aegis sign trust` lists the keys, and as root adds, revokes, rotates and expires them. It edits the file without touching its other lines, refuses what it can't edit so, and logs each change (`trust_changed`). The file may be edited by hand as well; that is not logged. Thirty days before a key ends, doctor and `daemon status` say so, unless its owner has another key of that role that ends later.",
  "A key can also be given in hex: by `--public-key-hex` and `--approval-public-key-hex` of `sign verify`, `apply` and a daemon started by hand, or by `AEGIS_SIGNING_PUBLIC_KEY_HEX` and `AEGIS_APPROVAL_PUBLIC_KEY_HEX` for `sign verify` and `apply`. It is trusted under whatever id a signature names, but the name, dates and revocation that the host's files have for that key still apply.",
  "A key file holds `algorithm`, `key_id` and `public_key_hex` in clear. An encrypted one holds the 32-byte seed in NaCl's secretbox under a key that scrypt (RFC 7914; N = 2^17, r = 8, p = 1, 128 MiB) derives from the passphrase. Parameters weaker than these or above 256 MiB are refused. The passphrase is normalised to Unicode NFC, so that é is the same on every keyboard; spaces and case count.",
];

export const BREAK_GLASS: readonly Block[] = [
  "For the night when a change can't wait and no approver can be reached. Nothing is switched off: policy, planning again and the log stay as they are, and a denied plan stays denied. There is one more approval key, and it is sealed away until then.",
  "Prepare it with two people, neither of whom holds an execution key. The first keeps the key file on a medium in a safe, the second the passphrase in a sealed envelope: neither can approve alone. The second types the passphrase.",
  {
    lines: [
      "first$  aegis sign keygen --role approval --name break-glass --break-glass \\",
      "          --encrypt --out /media/usb/break-glass-key",
      "root#   aegis sign trust add /media/usb/break-glass-key.pub",
    ],
  },
  "In an emergency the two meet at a terminal and read the plan. Signing stays with another person, as always:",
  {
    lines: [
      "ops$    aegis plan apt install hello --out hello.plan",
      "ops$    aegis policy hello.plan --out hello.policy",
      'both$   aegis sign approve --plan hello.plan --reason "INC-42: …" \\',
      "          --key /media/usb/break-glass-key --out hello.approval",
      "ops$    aegis sign --plan hello.plan --policy hello.policy \\",
      "          --approval hello.approval --out hello.execution",
      "ops$    aegis apply hello.execution",
    ],
  },
  "It is one approval by one key: where policy requires two, another approver or a second sealed key must give the other.",
  "What is audited: `approval_signed` in the log of the account that approved; in the production log `break_glass_used` (execution, key, name, operation and the reason that was given) directly before `execution_started`. If it can't be written, nothing runs.",
  "How it shows afterwards: `doctor` and `daemon status` warn of the execution, the key and the reason until root has looked at it. The monitor logs the warning too. `aegis audit acknowledge` ends it with an event of its own (`break_glass_acknowledged`), with the reason and whoever logged in before becoming root; the use itself stays in the log for good.",
  {
    lines: [
      "root#   aegis audit show --system --execution <execution>",
      'root#   aegis audit acknowledge <execution> --reason "INC-42 closed"',
      'root#   aegis sign trust revoke <id> --reason "seal broken, INC-42"',
      "root#   aegis sign trust add /media/usb/new-key.pub",
    ],
  },
  "What it does not give: to Aegis, whoever has both file and passphrase is one person; and root can trust any key, so none of this binds root. Keep the log's head elsewhere (`aegis audit verify --expect-head`).",
];

/** How the snapshots of each provider are found on the host; the ids themselves are described beside their grammar. */
const LOOKED_UP: Readonly<Record<keyof typeof PROVIDERS, string>> = {
  btrfs:
    "looked up through the kernel: a snapshot of the subvolume that holds the files; needs no privilege and no btrfs-progs",
  snapper: `looked up the same way, at .snapshots/<number>/snapshot of a btrfs configuration in /etc/snapper/configs`,
  lvm: "looked up with lvs(8): a thick or thin snapshot of the volume under the mounted file system, neither full nor damaged",
  zfs: "looked up with zfs get: a snapshot of the mounted dataset",
};

/** What `--snapshot-id` takes, provider by provider. */
export function snapshotsText(): readonly Block[] {
  const providers = (Object.keys(PROVIDERS) as (keyof typeof PROVIDERS)[]).map(
    (name) => [`\`${name}:<id>\``, `${PROVIDERS[name].like}; ${LOOKED_UP[name]}`] as const,
  );
  return [
    "`aegis sign --snapshot-id <provider>:<id>` names a snapshot. The executor looks it up just before it runs anything, and `sign` does too when root runs it. It must exist, be newer than the plan (so: plan, snapshot, sign), and be of a file system that holds the system. Where policy requires a snapshot, those named must together hold /etc, /usr and /var/lib/dpkg. What can't be looked up is refused (`control_invalid`, exit status 6), whatever policy or an approver accepts.",
    {
      terms: [
        ...providers,
        [
          "`<id>`",
          "not looked up: it counts if an approver accepts this very id (`aegis sign approve --accept-snapshot <id>`), or where the policy sets `[snapshot] accept_declared = true`",
        ],
      ],
    },
    "Any other provider is refused. A bare id has no colon; a cloud's `arn:…` and `https://…` may. Without btrfs, LVM or ZFS: plan, snapshot the machine from outside, have somebody approve with `--accept-snapshot <its name>`, and sign with `--snapshot-id <its name>`. The approver vouches for it: the signer alone can't.",
    "Times of snapper and btrfs are exact. lvm and zfs know seconds, and a snapshot of the plan's own second is refused, since it may have been made before. `lvs` and `zfs` need devices and CAP_SYS_ADMIN, which the executor's unit hides. Where they are in use, a drop-in for aegis-runner@.service gives them back (tried with thick and thin LVM volumes in a virtual machine; not with ZFS):",
    {
      lines: [
        "root# systemctl edit aegis-runner@.service",
        "[Service]",
        "PrivateDevices=no",
        "DevicePolicy=auto",
        "CapabilityBoundingSet=CAP_SYS_ADMIN",
      ],
    },
    "That a snapshot exists, is of the right thing and newer than the plan is checked; that the host boots from it is not.",
  ];
}
