import { aptOsv } from "./apt-osv.ts";
import { parseAptOperation } from "./apt-target.ts";
import type { Grammar } from "./eco-grammar.ts";

/** Prefix of the warning about an interrupted dpkg run. */
export const DPKG_WARNING = "dpkg was interrupted earlier";

/** Prefix of the warnings about disk space. */
export const SPACE_WARNING = "Disk space: ";

const NO_APT = { level: "fail", fix: "This host is not managed by apt." } as const;

/** apt's {@link Grammar}. */
export const aptGrammar: Grammar = {
  tool: "apt",
  operations: {
    update: "none",
    upgrade: "none",
    install: "some",
    remove: "some",
    "security-upgrade": "none",
    "full-upgrade": "none",
    autoremove: "none",
    purge: "some",
    rollback: "some",
    repair: "none",
    hold: "some",
    unhold: "some",
    "add-repository": "some",
    "remove-repository": "some",
  },
  withContent: ["add-repository"],
  security: { upgrade: "security-upgrade" },
  parseTargets: parseAptOperation,
  forms: { all: ["name", "name=version", "name:arch"], exact: "name=version" },
  signals: [],
  // What apt would install is in the transaction, with versions; the targets need none.
  isExact: () => true,
  osv: aptOsv,
  claims: {
    hostFacts: ({ host_hooks = [] }) => [
      {
        what: "what dpkg's configuration starts",
        items: host_hooks.map(({ configured_in, command }) => `${command} (${configured_in})`),
      },
    ],
    mayDiffer: {
      fields: [],
      // An index fetched again has other dates. Its packages are compared in the transaction.
      ofRepositories: ["release_date", "release_valid_until", "release_sha256"],
      // An interrupted dpkg run may have been repaired meanwhile (the executor checks for itself), and apt's messages
      // to root differ. Disks fill and empty.
      warnings: [DPKG_WARNING, SPACE_WARNING, "E: ", "W: "],
    },
  },
  programs: [
    { name: "apt-get", without: "no apt plan can be made", ...NO_APT },
    { name: "apt-cache", without: "no apt plan can be made", ...NO_APT },
    { name: "apt-config", without: "no apt plan can be run", ...NO_APT },
    { name: "dpkg", without: "no apt plan can be run", ...NO_APT },
    {
      name: "gpgv",
      instead: "sqv",
      level: "warn",
      without: "no repository counts as verified, so policy denies",
      fix: "Have an administrator install gpgv or sqv.",
    },
  ],
};
