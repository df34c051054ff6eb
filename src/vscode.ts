import { CONTENT_KEPT } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { RiskSignal } from "./doc-signals.ts";
import { type Ecosystem, emptyFindings, type Findings } from "./eco.ts";
import { type ClosurePackage, closureFindings } from "./eco-closure.ts";
import type { Targets } from "./eco-grammar.ts";
import { HOST_SETTINGS, type Planning, type PlanningOutput } from "./eco-planning.ts";
import { purlOf } from "./eco-purl.ts";
import { timeTrust } from "./eco-timestamp.ts";
import { withRollback } from "./eco-undo.ts";
import { AegisError } from "./errors.ts";
import { type VscodeGallery, vscodeGallery } from "./vscode-config.ts";
import { type PlannedExtension, resolveExtension } from "./vscode-resolve.ts";
import { CMS_SIGNATURE, GALLERY_SIGNATURE } from "./vscode-signature.ts";
import { splitExtensionTarget, vscodeGrammar } from "./vscode-target.ts";

/** Where signed installations go. */
const ROOT = "/var/lib/aegis/vscode";

type Editor = "code" | "code-server";

/**
 * VS Code: `install` of one extension, with those that it needs or brings along, into managed directories. Everything is found out by
 * GETs; an editor is needed to run a plan, and to know which version extensions must fit.
 */
export const vscode: Ecosystem = withRollback(
  {
    ...vscodeGrammar,
    gather,
    check: () => Promise.resolve([]),
    driver: async () => {
      const [{ managedDriver }, { vscodeManaged }] = await Promise.all([
        import("./eco-managed-driver.ts"),
        import("./vscode-managed.ts"),
      ]);
      return managedDriver(vscodeManaged);
    },
    signedArgv(plan: OperationPlan): string[] {
      const [target, ...others] = plan.exact_targets;
      const [editor] = plan.command_preview;
      const isOne =
        target !== undefined && others.length === 0 && splitExtensionTarget(target).version !== null;
      if (!isOne || (editor !== "code" && editor !== "code-server")) {
        throw new AegisError(
          "invalid_document",
          "the plan has no exact version of an extension to sign",
          "Plan again with a version: aegis plan vscode install <publisher.name>@<version>",
        );
      }
      return installArgv(editor, target);
    },
  },
  { root: "vscode", purl: (id, version) => purlIn(id, version, {}) },
);

function installArgv(editor: Editor, target: string): string[] {
  const places = ["--user-data-dir", `${ROOT}/user-data`, "--extensions-dir", `${ROOT}/extensions`];
  return [editor, "--install-extension", target, ...places];
}

async function gather(_operation: string, { targets }: Targets, planning: Planning): Promise<Findings> {
  const [target = ""] = targets;
  const { id, version } = splitExtensionTarget(target);
  const { editor, editorVersion, outputs } = await editorHere(planning);
  const gallery = vscodeGallery(planning.env, planning.readText, editor);
  const base: Findings = {
    ...emptyFindings(installArgv(editor, target)),
    source_registry: (gallery.openVsx ?? gallery.service).href,
    mutable_reference: version === null,
    raw_evidence: { commands: outputs.map(({ evidence }) => evidence) },
  };
  try {
    const closure = await resolveExtension(id, version, {
      ...{ gallery, planning, editor: editorVersion, time: timeTrust(planning) },
    });
    const pinned = closure.filter(({ requiredBy }) => requiredBy === null).map(idOf);
    const remarks = [
      ...(version === null
        ? pinned.map((one) => `${one} is the newest version today; name it to keep it.`)
        : []),
      ...(editorVersion === null
        ? ["Neither code-server nor code is installed: the plan can't be run here."]
        : []),
    ];
    return {
      ...base,
      ...describe(closure, { gallery, remarks, planning }),
      command_preview: installArgv(editor, pinned[0] ?? target),
    };
  } catch (error) {
    if (!(error instanceof AegisError) || ["internal", "not_found", "invalid_config"].includes(error.code))
      throw error;
    return { ...base, warnings: [`${target}: ${error.message}.`.slice(0, 4096).toWellFormed()] };
  }
}

/** The editor that is installed, code-server first: only it can be told where to ask for extensions. */
async function editorHere(planning: Planning) {
  const outputs: PlanningOutput[] = [];
  for (const editor of ["code-server", "code"] as const) {
    const output = await planning.run([editor, "--version"], { settings: HOST_SETTINGS });
    outputs.push(output);
    if (output.evidence.outcome !== "ok") continue;
    // `4.100.3 <commit> with Code 1.100.3`, or three lines of which the first is the version.
    const pattern = editor === "code" ? /^(\d+\.\d+\.\d+)/ : / with Code (\d+\.\d+\.\d+)/;
    const editorVersion = pattern.exec(output.stdout)?.[1];
    if (editorVersion !== undefined) return { editor, editorVersion, outputs };
  }
  return { editor: "code-server" as const, editorVersion: null, outputs };
}

interface Context {
  gallery: VscodeGallery;
  remarks: readonly string[];
  planning: Planning;
}

function describe(
  closure: readonly PlannedExtension[],
  { gallery, remarks, planning }: Context,
): Partial<Findings> {
  const [main] = closure;
  const facts = closure.map(({ vsix }) => vsix.facts);
  const binaries = facts.some(({ machineCode }) => machineCode.length > 0);
  const isSigned = closure.every(({ evidence }) =>
    evidence.evidence.some(({ kind, verified }) => kind === GALLERY_SIGNATURE && verified),
  );
  const isChecked = closure.every(({ evidence }) => evidence.evidence.some(({ verified }) => verified));
  const signals: RiskSignal[] = [];
  if (facts.some(({ startsAlways }) => startsAlways.length > 0)) signals.push("activation-events-risk");
  if (facts.some(({ startsByCommand }) => startsByCommand)) signals.push("command-activation-risk");
  if (facts.some(({ startsByFiles }) => startsByFiles.length > 0)) signals.push("workspace-contains-risk");
  if (facts.some(({ runsUntrusted }) => runsUntrusted)) signals.push("workspace-access-risk");
  if (binaries) signals.push("bundled-binary-risk");
  return {
    exact_targets: closure.filter(({ requiredBy }) => requiredBy === null).map(idOf),
    target_version: main?.vsix.version ?? null,
    metadata_available: true,
    ...closureFindings(closure.map((one) => packageOf(one, gallery, planning.host.architecture))),
    scripts: closure.flatMap(({ vsix }) =>
      vsix.facts.uninstallScript === null
        ? []
        : [
            {
              package: vsix.id,
              name: "vscode:uninstall",
              body: vsix.facts.uninstallScript.slice(0, 65536).toWellFormed(),
            },
          ],
    ),
    native_code_risk: facts.some(({ machineCode }) => machineCode.some(({ path }) => path.endsWith(".node"))),
    binary_artifact_risk: binaries,
    signature_or_checksum_status: isSigned
      ? "signature-verified"
      : isChecked
        ? "checksum-verified"
        : "unknown",
    publisher_or_maintainer: main?.listed.publisher?.slice(0, 4096).toWellFormed() ?? null,
    published_at: main?.listed.publishedAt ?? null,
    deprecated: main?.listed.deprecated?.slice(0, 4096).toWellFormed() ?? null,
    warnings: [...remarks, ...closure.flatMap(remarksOn)]
      .slice(0, 1000)
      .map((text) => text.slice(0, 4096).toWellFormed()),
    provenance_evidence: closure.flatMap(({ evidence }) => evidence.evidence),
    rollback_plan: CONTENT_KEPT,
    signals,
  };
}

function idOf({ vsix }: PlannedExtension): string {
  return `${vsix.id}@${vsix.version}`;
}

function packageOf(one: PlannedExtension, gallery: VscodeGallery, architecture: string): ClosurePackage {
  const { vsix, listed, url, sha256, size, requiredBy, evidence } = one;
  const { id, version, platform, license } = vsix;
  const base = gallery.service.href.replace(/\/vscode\/gallery$/, "");
  const elsewhere = gallery.openVsx === null ? {} : { repository_url: base };
  return {
    ...{ name: id, version, url, sha256, size, license, requiredBy, publishedAt: listed.publishedAt },
    architecture: platform === "universal" ? "all" : architecture,
    integrity: `sha256:${sha256}`,
    purl: purlIn(id, version, { ...(platform === "universal" ? {} : { platform }), ...elsewhere }),
    ...(evidence.downgrade === null ? {} : { facts: { trust_downgrade: evidence.downgrade } }),
  };
}

function purlIn(id: string, version: string, qualifiers: Record<string, string>): string {
  const [namespace = "", name = ""] = id.split(".");
  return purlOf({ type: "vscode-extension", namespace, name, version, qualifiers });
}

/** What a person should not miss of one extension. */
function remarksOn({ vsix, listed, evidence }: PlannedExtension): string[] {
  const { facts, requires } = vsix;
  const id = `${vsix.id} ${vsix.version}`;
  const code = facts.machineCode.slice(0, 3).map(({ path, kind }) => `${path} (${kind})`);
  const rest = facts.machineCode.length - code.length;
  // What is signed by a certificate is worth what the reader knows of its holder.
  const unsigned = evidence.evidence.filter(({ verified, kind }) => !verified || kind === CMS_SIGNATURE);
  const builtIn = requires.filter((one) => one.startsWith("vscode."));
  return [
    ...(facts.startsAlways.length > 0
      ? [`${id} runs in every window, without being asked for (${facts.startsAlways.join(", ")}).`]
      : []),
    ...(facts.startsByFiles.length > 0
      ? [`${id} runs in workspaces that hold certain files (${facts.startsByFiles.slice(0, 5).join(", ")}).`]
      : []),
    ...(facts.runsUntrusted ? [`${id} also runs in workspaces that the user doesn't trust.`] : []),
    ...(code.length > 0
      ? [`${id} carries machine code: ${code.join(", ")}${rest > 0 ? ` and ${rest} other files` : ""}.`]
      : []),
    ...(listed.isVerified === false
      ? [
          `${id}: the gallery has not verified that ${listed.publisher ?? "its publisher"} may publish under this name.`,
        ]
      : []),
    ...(listed.publishedAt === null ? [`${id}: the gallery doesn't tell when it was published.`] : []),
    ...(listed.deprecated === null ? [] : [`${id}: ${listed.deprecated}.`]),
    ...(builtIn.length > 0
      ? [`${id} needs ${builtIn.join(", ")}, which is part of the editor and not planned.`]
      : []),
    ...unsigned.map(({ detail }) => `${id}: ${detail}.`),
  ];
}
