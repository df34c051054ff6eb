/*
 * What an agent may and must not do about each rule that fired. A test compares the ids with policy-rules.ts.
 */

export interface RuleAdvice {
  may: string;
  never: string;
}

const PINNED: RuleAdvice = {
  may: "plan again with an exact version or digest whose publisher signs it",
  never: "fetch or install the artifact by other means, or from another registry",
};
const HUMAN: RuleAdvice = {
  may: "name the packages and what depends on them, and hand the plan over for approval",
  never: "split the request up so that the rule does not see it",
};
const NEEDED: RuleAdvice = {
  may: "ask for something that keeps the package; a kernel may go once another one runs",
  never: "ask for the policy to be changed: no setting allows this",
};
const CODE: RuleAdvice = {
  may: "show the person which code would run, from the plan's evidence, and hand the plan over",
  never: "run, download or unpack that code yourself to try it out",
};
const OPERATION: RuleAdvice = {
  may: "meet what the policy asks for this operation, and hand the plan over",
  never: "run the package manager yourself because the change looks small",
};
const FORGED: RuleAdvice = {
  may: "throw the plan away and plan again; report it if it comes back",
  never: "edit the plan",
};
const ARTIFACT: RuleAdvice = {
  may: "report it where the policy lets no such artifact be applied, else meet the controls and hand the plan over",
  never: "install it for yourself alone, into a project or a virtual environment of this host, instead",
};

/** By rule id. */
export const RULE_ADVICE: Readonly<Record<string, RuleAdvice>> = {
  "target-invalid": {
    may: "correct the name and plan again",
    never: "add quotes, flags or wildcards until something passes",
  },
  "target-denied": {
    may: "ask for the same software by its plain name from a configured source",
    never:
      "work around it: no download, no local copy, no replacement, no other package manager for a URL, path, git source or downgrade that was refused",
  },
  "command-metacharacters": {
    may: "reject the request and show the person the words it came from",
    never: "escape or rewrite them: a command preview is an argv array, and no shell is ever asked",
  },
  "metadata-command-failed": {
    may: "look at raw_evidence in the plan, have the cause repaired, plan again",
    never: "go on with what was known before",
  },
  "metadata-not-understood": {
    may: "check the name with the person and plan again; report what the tool said",
    never: "guess the version or the contents",
  },
  "apt-essential-removal": NEEDED,
  "apt-removal": {
    may: "name what would go, and ask the person whether the request can be met without it",
    never:
      "name it as a target yourself to get past this, or remove, hold or mark packages beforehand so that the plan comes out differently",
  },
  "apt-downgrade": {
    may: "ask for the installed version or a newer one",
    never: "remove the package first, or pin an older version in apt's preferences",
  },
  "apt-running-kernel-removal": NEEDED,
  "apt-autoremove-else": FORGED,
  "apt-configure-elsewhere": FORGED,
  "apt-hold-elsewhere": FORGED,
  "apt-source-conflict": {
    may: "report both sources and the version; an administrator has to drop one",
    never: "pick the one that looks better",
  },
  "apt-repository-untrusted": {
    may: "report the source: an administrator has to give it an explicit Signed-By keyring, or name it by URI and key fingerprint in trusted_origins",
    never: "add keys, sources, trusted=yes or a keyring yourself",
  },
  "apt-too-new": {
    may: "name the day from which it is old enough, and ask whether an older version or waiting will do",
    never: "set the clock, change the record of first sightings, or download the package yourself",
  },
  "apt-repository-form": FORGED,
  "apt-repository-key": {
    may: "report the key's fingerprint, and ask for the one that the vendor signs with today",
    never: "change the date or the key so that it passes",
  },
  "apt-repository-unverified": {
    may: "report which index is not signed by the key that was given; the vendor may have changed it",
    never: "try other keys until one fits, or take a key from the repository itself",
  },
  "apt-repository-unseen": {
    may: "say that nobody has seen whether the key fits, and hand the plan over",
    never: "vouch for an address that did not answer",
  },
  "apt-repository-plain-http": {
    may: "see whether the vendor offers https, and plan with that; else hand the plan over",
    never: "call it safe because the index is signed",
  },
  "apt-repository-impersonates": {
    may: "point out the name it goes by and the key that signs it, and hand the plan over",
    never: "repeat its own word for what it is",
  },
  "apt-repository-key-changes": {
    may: "name the old and the new fingerprint and where the new one is published, and hand the plan over",
    never: "vouch for the new key because the repository serves it",
  },
  "apt-repository-key-weak": {
    may: "say why the key is weak, and hand the plan over",
    never: "call it good enough",
  },
  "apt-hash-unknown": {
    may: "plan apt update, have it applied, then plan again",
    never: "download the package to work out a hash",
  },
  "vulnerability-denied": {
    may: "plan the fixed version named in vulnerability_evidence; where there is none, the answer is no, and you may say whether the installed version has the vulnerability too (also_old)",
    never: "argue that the hole does not matter here, that nobody exploits it, or ask for a laxer threshold",
  },
  "script-downloads-and-runs": {
    may: "report the script as suspicious, with package and version",
    never: "run the script, or fetch what it would fetch",
  },
  "script-obfuscated": {
    may: "report the script as suspicious, with package and version",
    never: "decode and run it",
  },
  "artifact-mutable": PINNED,
  "artifact-unresolved": {
    may: "report the plan's warnings, which say what kept planning from an answer, and plan again once that is mended",
    never: "install a missing tool yourself, or take the package from elsewhere",
  },
  "artifact-unverified": PINNED,
  "rollback-unverified": {
    may: "report that earlier content can't be vouched for, and plan the earlier version by its name",
    never: "put the directory into another state by hand so that the rollback passes",
  },
  "artifact-registry": {
    may: "report the registry; whoever owns the policy may add it to allowed_registries",
    never: "mirror, rename or proxy it",
  },
  "artifact-too-new": {
    may: "plan an older version, or wait until this one is old enough",
    never: "ask for an exception because it is urgent",
  },
  "publisher-change": {
    may: "plan a version by the former publisher, or wait until the change is old enough",
    never: "take the new publisher's word for it",
  },
  "trust-downgrade": {
    may: "plan the last version that was signed and built as before, and show a person what is missing",
    never: "explain the missing signature away",
  },
  "artifact-provenance": {
    may: "plan a version whose publisher attests how it was built",
    never: "take a checksum for an attestation",
  },
  "image-provenance": {
    may: "plan an image whose builder the policy names; whoever owns the policy may add one to signers",
    never: "take a statement that nobody signed for provenance, or build the image yourself",
  },
  "image-signature": {
    may: "plan an image that one of the policy's signers has signed, and report who signed this one, if anybody did",
    never: "sign the image yourself, or copy it to where other signers count",
  },
  "image-root-user": {
    may: "plan an image that names a user; whoever owns the policy may set allow_root_user",
    never: "change the image and push it elsewhere",
  },
  "vscode-signature": {
    may: "plan the extension from a gallery that signs; whoever owns the policy may add a gallery's key to signing_keys, or a certificate to certificates",
    never: "take a checksum for a signature, or the key from a web page",
  },
  "nuget-signature": {
    may: "report who signed the package, by the plan's evidence; whoever owns the policy may add an author's certificate",
    never: "take a hash for a signature, or get the package from elsewhere",
  },
  "cargo-build-scripts": {
    may: "report which crates run code while they are built; whoever owns the policy may set allow_build_scripts",
    never: "build the crate yourself, or take a binary from elsewhere",
  },
  "kernel-change": HUMAN,
  "bootloader-change": HUMAN,
  "security-sensitive": HUMAN,
  "apt-upgrade-installs": HUMAN,
  "apt-hold-sensitive": HUMAN,
  "apt-security-other": HUMAN,
  "apt-held-change": {
    may: "report which hold is concerned, and hand the plan over",
    never: "take the hold off",
  },
  "apt-update-changes": FORGED,
  "apt-update-unauthenticated": {
    may: "report the sources whose signature apt is told not to check",
    never: "change /etc/apt yourself",
  },
  "lifecycle-scripts": CODE,
  "build-hooks": CODE,
  "native-code": CODE,
  "bundled-binaries": CODE,
  "metadata-missing": {
    may: "report the tool that is missing; an administrator may install it, then plan again",
    never: "install the tool yourself",
  },
  "vulnerability-grave": {
    may: "name the vulnerability and the fixed version, if there is one, and hand the plan over",
    never: "leave it out of your summary because its severity is unknown",
  },
  "nothing-to-do": {
    may: "report that the host is already as asked for, and stop",
    never: "sign or apply anything",
  },
  "apt-install": OPERATION,
  "apt-upgrade": OPERATION,
  "apt-update": OPERATION,
  "apt-remove": {
    may: "name what goes and what it did on this host, and hand the plan over",
    never: "remove it by hand because the plan takes long",
  },
  "apt-full-upgrade": OPERATION,
  "apt-autoremove": HUMAN,
  "apt-purge": {
    may: "name whose configuration and data would be lost for good, and hand the plan over",
    never: "plan a purge where a removal was asked for",
  },
  "apt-rollback": {
    may: "name what it restores and removes and what its warnings say, and hand the plan over",
    never: "roll back on your own because a run failed",
  },
  "managed-rollback": {
    may: "name what comes back and what goes, say why it should, and hand the plan over",
    never: "copy anything out of /var/lib/aegis/previous, or roll back on your own because a run failed",
  },
  "apt-add-repository": {
    may: "give the vendor's stanza and key with where each is published, name the fingerprint, and hand the plan over",
    never: "write below /etc/apt, run add-apt-repository, or pipe a vendor's set-up script into a shell",
  },
  "apt-remove-repository": {
    may: "name the packages that came from it and get no updates any more, and hand the plan over",
    never: "remove or rename its file yourself",
  },
  "apt-repair": {
    may: "report what dpkg left half-done, and hand the plan over",
    never: "type `dpkg --configure -a`, with or without sudo",
  },
  "apt-security-upgrade": OPERATION,
  "apt-hold": OPERATION,
  "apt-unhold": OPERATION,
  "services-restart": {
    may: "say which services run old code and why, and hand the plan over",
    never: "end the service's process, so that systemd starts it anew",
  },
  "services-never-restarted": {
    may: "say that a reboot brings the new code; the policy's owner may name the unit in [services] permitted_units",
    never: "restart another unit that takes it along, or log anybody out",
  },
  "services-risky": {
    may: "say who may be cut off, by the plan's warnings, and hand the plan over",
    never: "leave the unit out of one plan and into another, so that the rule does not see it",
  },
  "npm-apply": ARTIFACT,
  "pip-apply": ARTIFACT,
  "container-apply": ARTIFACT,
  "nuget-apply": ARTIFACT,
  "vscode-apply": ARTIFACT,
  "go-apply": ARTIFACT,
  "cargo-apply": ARTIFACT,
  undecided: {
    may: "hand the plan over: nobody has decided about this operation yet",
    never: "take silence for consent",
  },
  "review-missing": {
    may: "ask the reviewer service for a review and decide again with it; if it is down, say so and hand the plan over",
    never: "write a review, or have another model write one",
  },
  "review-denies": {
    may: "report the review's red flags; ask for something else",
    never: "leave the review out, or ask again until a milder one comes",
  },
  "review-wants-human": {
    may: "report the review's red flags, and hand the plan over together with the review",
    never: "leave the review out, or ask again until a milder one comes",
  },
  "review-wants-snapshot": {
    may: "ask the person for a snapshot, and hand the plan over together with the review",
    never: "leave the review out, or invent a snapshot's name",
  },
};

/** Names of rules in older texts about Aegis. */
export const OLDER_NAMES: Readonly<Record<string, string>> = {
  "vulnerability-denied": "critical vulnerability evidence",
};
