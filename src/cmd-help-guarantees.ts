import type { Block } from "./cmd-help-text.ts";
import type { Ecosystem } from "./eco.ts";
import { BUILT, loadEcosystem, NOT_BUILT } from "./eco-load.ts";
import { SIGSTORE_ROOT_OF } from "./eco-sigstore-root.ts";
import { EXIT } from "./errors.ts";
import { SYSTEM } from "./paths.ts";

/** What a signature promises, and what it does not. */
export const GUARANTEES: readonly Block[] = [
  "Promised:",
  {
    items: [
      "What runs is what was signed: the argv, the exact versions, and every .deb to the byte. The executor plans again as root and refuses if the transaction differs in anything; then apt hands its final transaction and the package files to Aegis, its last hook before unpacking, which compares each SHA-256 with the plan. `_apt`, the user that apt downloads as, is inside the threat model: whatever it holds open, dpkg unpacks a copy that only root could ever write to, and that copy is what was hashed. The package indexes that the executor plans from belong to `_apt` too: each must match its signed Release file, with nobody holding it open for writing, and apt builds its binary cache from them anew. On a slow host that takes a few seconds.",
      "A plan file is a claim. The executor believes nothing in it that it can find out itself: signals, evidence and the policy decision are made again from the host, by the same code, under the executor's own policy file. That decision may not be stricter than the signed one, nor ask for a person because of a rule or a grave vulnerability that the signed documents don't name, since the approver did not know of it (`drift`, exit status 9). It stands in the log's start event.",
      "A signed plan runs once, on the host it was made on, within its lifetime (30 minutes, at most 24 hours by policy), and not after a reboot in between. A longer `--expires-in-minutes` is cut to the limit, and that is said. Used plans and approvals stay used even if an older copy of /var/lib/aegis is put back, because the log is asked too.",
      "Whoever approves is not the signer: the executor refuses an approval by the signing key, a repeated approver, an approval under the signer's own name, and an approval of any other plan.",
      "A change of settings under /etc/apt/apt.conf.d can't loosen a run: apt runs with the host's settings frozen, ours behind them, and the host's files switched off; the result is dumped and compared before apt starts. Settings for apt's developers (`Debug`) are left out. In dpkg's own files (/etc/dpkg/dpkg.cfg, dpkg.cfg.d) an option that changes what is done, such as `instdir` or `ignore-depends`, is refused before anything is used up; the programs that dpkg starts because of them (`post-invoke`, as needrestart has it) stand in the plan, and different ones at the time of the run are drift.",
      "Killing the client, the front or the runner does not stop dpkg halfway. The next runner compares, logs what it finds as `execution_interrupted`, and never runs the plan again.",
    ],
  },
  "Not promised:",
  {
    items: [
      "Maintainer scripts run as root. Aegis makes sure that they are the scripts of the approved packages, not that they are good. Of a .deb it reads only the control file: name, version, architecture and Essential must be as planned, and nothing that stays on the system may be excluded by its Conflicts or Breaks. Packages whose files it takes over by Replaces must stand in the index, and so in the plan. Its list of files is not read, and no .deb is refused for what it ships: unpacking each one twice would cost 5 seconds per 100 MB (xz), and a script can write any file anyway. What packages and their scripts change besides (other packages, or Aegis's own program, keys, policy and units) is reported by the comparison after the run (exit status 9), but it has happened. So is a file of another package under its other name: where /bin is a link to usr/bin, dpkg lets /usr/bin/true replace /bin/true without a Replaces.",
      "A plan is used up when apt starts, even where dpkg never does: because a download fails, or a file is not the signed one. Plan, approve and sign again then.",
      "Root can do anything, rewriting the log and its hashes included. Against root only what was kept elsewhere proves anything: keep the head that `aegis audit verify` prints (`<number>:<hash>`) and give it next time as `--expect-head`: a log that was cut off or rewritten then fails. A hash chain alone can't show that; that all its events are gone fails without it too (exit status 6).",
      "An agent that shares the approver's account can approve for them. Keep the approval secret under another account, best on another machine. `--confirm <whole hash>` exists so that a person who has read a plan elsewhere can script; an agent must not have the key.",
      "A snapshot is looked up, not tried. That it is there, of the right thing and newer than the plan is checked; that the host boots from it is not. A bare id (of a cloud's disk, say) is only declared: nothing looks it up.",
      "Who submitted a plan (the uid) is what the front reports. The actor in the log is the verified signer and approvers.",
    ],
  },
];

/** What does not work, and what was tried where. */
export async function limitsText(): Promise<readonly Block[]> {
  const ecosystems = await Promise.all(BUILT.map(async (name) => ({ ...(await loadEcosystem(name)), name })));
  return [{ items: [builtText(ecosystems), ...LIMITS] }];
}

/** Which ecosystems this version plans and runs, from the table of them. */
function builtText(ecosystems: readonly (Omit<Ecosystem, "name"> & { name: string })[]): string {
  const shown = ({ name, operations }: (typeof ecosystems)[number]) =>
    `${name} (${Object.keys(operations).join(", ")})`;
  // docker and podman are one ecosystem, of which only one is run.
  const isRun = ({ name, driver }: (typeof ecosystems)[number]) => driver !== null && name !== "podman";
  const run = ecosystems.filter(isRun).map(shown);
  const planned = ecosystems.filter((one) => !isRun(one)).map(shown);
  return [
    `Planned and run: ${run.join(", ")}.`,
    ...(planned.length === 0 ? [] : [`Only planned, and refused by the executor: ${planned.join(", ")}.`]),
    `Named but not built yet, with exit status ${EXIT.internal}: ${[...NOT_BUILT, "`audit checkpoint`", "`audit prove`"].join(", ")}.`,
  ].join(" ");
}

const LIMITS: readonly string[] = [
  "systemd 249 or later. Everything was seen on 249 (Ubuntu 22.04, apt 2.4), 252 (Debian 12, apt 2.6), 255 (Ubuntu 24.04, apt 2.7), 257 (Debian 13, apt 3.0) and 259 (Ubuntu 26.04, apt 3.2), in containers on one kernel, on amd64. Versions between these are accepted untried: their neighbours know every directive of the units, the youngest of which, `NoExecPaths=`, came with 248. Later ones are untried too. On 249 the front still sees the host's /run (systemd puts it in place of the empty one), but neither D-Bus nor the socket that commands systemd. 247 (Debian 11, apt 2.2) is refused: it ignores `NoExecPaths=`, and a compromised front could start a program.",
  "The program needs glibc 2.17 or newer, no other library, and /proc. x64 builds need SSE 4.2 (2008). There are no builds for musl. arm64 was tested under qemu's emulation only: start, help, policy, signing and verifying.",
  "npm, pip, go, cargo, nuget and vscode are confined by aegis-build@.service, or, for an executor that root starts by hand (`aegis daemon --executor`), in the same namespaces without the unit's control group and address filter, and with a small filter of system calls (no local sockets, no io_uring). Where neither can be made, the run is refused (`unavailable`) before anything is used up. What their runs replaced is kept under /var/lib/aegis/previous, the last three contents of each managed directory; `aegis plan rollback <execution>` goes back to one where nothing else has changed the directory since.",
  "pip: commands run by launchers that root writes (`/var/lib/aegis/pip-packages/.launchers`), which put the packages before the distribution's; a Python that such a command starts itself doesn't find them. All packages share that one directory: a later plan can replace a dependency's version under an earlier package. cargo: what a compiled program holds depends on the build, which is confined and not repeated; names, places and records are compared.",
  `npm: what a package bundles in its own file is listed and not looked up for vulnerabilities. The registry's signature counts by keys that are part of Aegis, or in /etc/aegis/npm-keys/<host>.json (that registry's \`/-/npm/v1/keys\`, saved by root); provenance by Sigstore's keys of ${SIGSTORE_ROOT_OF}, which are part of Aegis too, or by those in ${SYSTEM.sigstoreRoot}. They are not refreshed: a newer key is unknown until a newer Aegis or a newer file, and a package with provenance by one is denied until then.`,
  "NuGet: what Debian's and Ubuntu's nuget (2.8.7) does is planned: it takes the dependencies of every target framework, the lowest release that fits, the newest where nobody names a limit, no prerelease as a dependency, and no circles. Packages that want a newer NuGet (minClientVersion), or have versions of semantic versioning 2, can be planned and not run with it. Sources are of protocol 3; directories, several sources at once and source mappings are not used. A repository's signature counts where the source's index names its certificate, an author's where `[nuget] authors` does; other chains of certificates and revocation are not looked at, timestamps must lead to a root of the system's store. In aegis-build@.service Mono says that it may not set its threads' priorities (`pthread_setschedparam failed`): that is so, and harmless.",
  "VS Code: extensions come from one gallery, asked by GET: Open VSX's software in every version, a gallery that only speaks Microsoft's protocol in the newest alone. What an extension needs or brings along is planned in its newest version for this host; extensions of the publisher `vscode` are taken to be part of the editor. Open VSX's signature counts by the key that the gallery gives, or by `[vscode] signing_keys`; Microsoft's (`.signature.p7s`) is verified over the hashes of every file, by the certificate that it carries; whose that is, Aegis can't tell, having none of Microsoft's roots, so it counts where `[vscode] certificates` names it. It was tried with certificates of its tests' own and with openssl's signatures, never with one of Microsoft's. They are installed by code-server, which can be told where to ask. Microsoft's `code` can't, and has never been run by Aegis: in the place of it a stub was tried. What the editor keeps for itself (user-data) is thrown away after the run, and root writes its list of extensions. Start the editor with `--extensions-dir /var/lib/aegis/vscode/extensions`.",
  "Images: `docker pull` is run with docker's own engine, which fetches the image itself (mirrors and proxies are the engine's own; a password for the registry is the executor's, from /etc/aegis/registries.toml: for Docker Hub that of auth.docker.io). Afterwards its store in /var/lib/docker is compared: the configuration under the signed digest, and the layers that it names. An engine that keeps images in containerd's store, or elsewhere, is refused. `podman pull` is planned, decided and signed, and refused by the executor. Registries that don't say when an image was pushed are all there are: `[container] minimum_age_days` above 0 denies every image. Layers are not fetched for a plan: it has their digests and sizes from the manifest, and their bytes are compared when they are pulled (by docker's engine). Registries that send elsewhere for manifests (registry.k8s.io) can't be planned: that is followed for the files below them only. Programs that know passwords (credHelpers) and identity tokens are not used. Signatures count in cosign's forms (tags, and bundles among the referrers, as cosign 2.6.5 and 3.1.3 make them): by keys as they are, by identities with an entry in a transparency log. A bundle's RFC 3161 time stamp is verified; one beside a tag is not read, and without a log's entry no identity counts. No rollback: remove the image by hand.",
  "Go: every module and go.mod is held against the checksum database that GOSUMDB names (a record proven to be in a tree which its key has signed), in planning and again by the executor. The build itself runs with GOSUMDB=off from the signed files, because the database's answers aren't part of a plan; afterwards the program's own list of modules and hashes is compared. That the compiler makes of the sources what they say is go's word. A program in the place of one of another package with that file name is refused. C is left out (CGO_ENABLED=0); modules from GOPRIVATE, GONOSUMDB or a database that is off are unverified and denied; version control, other toolchains, .netrc and $GOROOT/go.env are never used.",
  "Sources are verified with gpgv, or with sqv where that is all there is (a minimal Debian 13). With neither no repository counts as verified, and policy denies every install. sqv judges as it does for apt: it names certificates and no subkeys, so a source bound to one subkey (`Signed-By` with `!`) is untrusted there.",
  "A setting for apt-get alone (`Binary::apt-get::…`, `Version::0.…::…`) can't be frozen: nothing is planned or run while there is one.",
  "Vulnerability records come only from a configured source (`AEGIS_OSV_DIR` or `AEGIS_OSV_URL`); without one, a plan that fetches something says that nothing is known.",
  `Times in the log never go back. After a clock that ran ahead, executions are refused (\`clock_behind\`) until time has caught up, or root has put ${SYSTEM.auditDir} aside and removed ${SYSTEM.newestEvent}, which begins a new log. Without the second step a log with fewer events than were written is refused (\`log_tampered\`): on Ubuntu the group syslog may rename what is in /var/log.`,
  "A run's output is cut to 16 MiB a stream after its end; its hash in the log covers all of it.",
  "No command starts from a working directory that has been deleted, wrappers included: Bun's runtime ends with exit status 1 and a sentence of its own before Aegis begins. Type `cd /`.",
  "No model runs in Aegis's tests: a test server answers with replies in the forms that real model families give. How well a given small model judges is not measured.",
  "A required review is checked under the signed plan, not made again by the executor: that would make the decision depend on a model twice.",
];
