import { CONTENT_KEPT } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { CommandEvidence, ProvenanceEvidence } from "./doc-plan-evidence.ts";
import type { RiskSignal } from "./doc-signals.ts";
import { type Ecosystem, emptyFindings, type Findings } from "./eco.ts";
import { closureFindings } from "./eco-closure.ts";
import type { Targets } from "./eco-grammar.ts";
import type { Planning } from "./eco-planning.ts";
import { purlOf } from "./eco-purl.ts";
import { withRollback } from "./eco-undo.ts";
import { AegisError } from "./errors.ts";
import { pipConfig } from "./pip-config.ts";
import { inspectHost } from "./pip-host.ts";
import { indexReader, type Project, SOURCE_ONLY } from "./pip-index.ts";
import { resolvePip } from "./pip-resolve.ts";
import { pipGrammar, splitPipTarget } from "./pip-target.ts";
import { parseSpecifiers } from "./pip-version.ts";
import { type PlannedWheel, wheelReader } from "./pip-wheels.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";

/** Where signed installations go. */
const TARGET = "/var/lib/aegis/pip-packages";

/**
 * pip: `install` of projects from one index into a managed directory, wheels only. The directory is root's, so its content is not
 * looked at: everybody who plans gets the same transaction, which is always an installation.
 */
export const pip: Ecosystem = withRollback(
  {
    ...pipGrammar,
    gather,
    check: () => Promise.resolve([]),
    driver: async () => {
      const [{ managedDriver }, { pipManaged }] = await Promise.all([
        import("./eco-managed-driver.ts"),
        import("./pip-managed.ts"),
      ]);
      return managedDriver(pipManaged);
    },
    signedArgv(plan: OperationPlan): string[] {
      const exact = plan.exact_targets.every((target) => splitPipTarget(target).version !== null);
      if (plan.exact_targets.length === 0 || !exact) {
        throw new AegisError(
          "invalid_document",
          "the plan has no exact Python version to sign",
          "Plan again with a version: aegis plan pip install <name>==<version>",
        );
      }
      return installArgv(plan.exact_targets);
    },
  },
  {
    root: "pip-packages",
    purl: (name, version) => purlOf({ type: "pypi", namespace: null, name, version, qualifiers: null }),
  },
);

function installArgv(targets: readonly string[]): string[] {
  const options = ["--disable-pip-version-check", "--no-input", "--target", TARGET];
  return ["python3", "-m", "pip", "install", ...options, ...targets];
}

async function gather(_operation: string, { targets }: Targets, planning: Planning): Promise<Findings> {
  const asked = targets.map(splitPipTarget);
  const config = pipConfig(planning.env, planning.readText);
  const base: Findings = {
    ...emptyFindings(installArgv(targets)),
    source_registry: config.index.href,
    mutable_reference: asked.some(({ version }) => version === null),
    warnings: config.notes,
  };
  const looked = inspectHost(planning);
  const host = looked.then(({ host: found }) => found);
  host.catch(() => {});
  const index = indexReader(config, host, planning);
  const pages =
    config.refused === null ? Promise.all(asked.map(({ name }) => index.project(name))) : Promise.resolve([]);
  pages.catch(() => {});
  const { command, environment, problem } = await looked;
  const failed = (why: string, signals: RiskSignal[] = []): Findings => ({
    ...base,
    warnings: [...base.warnings, why.slice(0, 4096)],
    raw_evidence: { commands: [command] },
    signals,
  });
  if (config.refused !== null) return failed(config.refused);
  if (environment === null) return failed(problem);
  try {
    const projects = await pages;
    for (const { name, found } of projects) if (!found) throw unknown(name, config.index);
    const wheels = wheelReader(config, environment, planning);
    const wanted = asked.map(({ name, version }) => ({
      name,
      specifiers: parseSpecifiers(version === null ? "" : `==${version}`) ?? [],
    }));
    const world = { project: index.project, requirements: wheels.requirements, unusable: wheels.unusable };
    const closure = await wheels.read(await resolvePip(wanted, world), index.project);
    return {
      ...base,
      ...describe({ asked: asked.map(({ name }) => name), closure, planning, base, command }),
    };
  } catch (error) {
    if (!(error instanceof AegisError) || error.code === "internal" || error instanceof UnknownProject)
      throw error;
    const needsSource = error.message.includes(SOURCE_ONLY);
    return failed(error.message, needsSource ? ["build-backend-risk", "setup-py-risk"] : []);
  }
}

class UnknownProject extends AegisError {}

function unknown(name: Project["name"], index: URL): AegisError {
  return new UnknownProject("not_found", `${index.host} has no Python package ${name}`, "Check the name.");
}

interface Resolution {
  asked: readonly string[];
  closure: readonly PlannedWheel[];
  planning: Planning;
  base: Findings;
  command: CommandEvidence;
}

function describe({ asked, closure, planning, base, command }: Resolution): Partial<Findings> {
  const main = asked.flatMap((name) => closure.find(({ wheel }) => wheel.name === name) ?? []);
  const exact = main.map(({ wheel }) => `${wheel.name}==${wheel.version}`);
  const [single] = main.length === 1 ? main : [];
  const native = closure.filter(({ contents }) => contents.native.length > 0);
  const isAttested = closure.every(({ provenance }) => provenance.evidence.some(({ verified }) => verified));
  const hasCommands = closure.some(({ contents }) => contents.commands.length > 0);
  return {
    exact_targets: exact,
    target_version: single?.wheel.version ?? null,
    metadata_available: true,
    command_preview: installArgv(exact),
    ...closureFindings(closure.map((one) => closurePackage(one, planning.host.architecture))),
    scripts: closure
      .flatMap(({ wheel, contents }) =>
        contents.scripts.map((script) => ({ package: wheel.name, ...script })),
      )
      .slice(0, MAX_SCRIPTS),
    native_code_risk: native.length > 0,
    binary_artifact_risk: native.length > 0,
    signature_or_checksum_status: isAttested ? "attestation-verified" : "checksum-verified",
    publisher_or_maintainer: single?.contents.metadata.author?.slice(0, 4096) ?? null,
    published_at: single?.wheel.publishedAt ?? null,
    warnings: [
      ...base.warnings,
      ...main.flatMap(({ wheel }, i) =>
        base.command_preview.includes(exact[i] ?? "") || !base.mutable_reference
          ? []
          : [`${wheel.name}==${wheel.version} is the newest version today; name it to keep it.`],
      ),
      ...closure.flatMap((one) => warningsOf(one, planning)),
    ].slice(0, 1000),
    provenance_evidence: closure.flatMap(provenanceOf),
    rollback_plan: CONTENT_KEPT,
    raw_evidence: { commands: [command] },
    signals: [
      ...(native.length > 0 ? (["native-extension-risk"] as const) : []),
      // The managed directory is no virtualenv, and commands there find each user's own packages behind those of the directory.
      "virtualenv-missing",
      ...(hasCommands ? (["user-site-risk"] as const) : []),
    ],
  };
}

const MAX_SCRIPTS = 256;

function closurePackage({ wheel, contents, provenance, requiredBy }: PlannedWheel, architecture: string) {
  const { name, version, url, sha256, publishedAt } = wheel;
  return {
    ...{ name, version, url, sha256, publishedAt, size: contents.size },
    architecture: wheel.filename.endsWith("-any.whl") ? "all" : architecture,
    integrity: `sha256:${sha256}`,
    purl: purlOf({ type: "pypi", namespace: null, name, version, qualifiers: null }),
    license: contents.metadata.license,
    requiredBy: requiredBy === null ? null : `${requiredBy.name} ${requiredBy.version}`,
    ...(provenance.downgrade === null ? {} : { facts: { trust_downgrade: provenance.downgrade } }),
  };
}

function warningsOf({ wheel, contents }: PlannedWheel, planning: Planning): string[] {
  const id = `${wheel.name} ${wheel.version}`;
  const warnings: string[] = [];
  if (wheel.yanked !== null)
    warnings.push(`${id} was withdrawn by its maintainers: ${wheel.yanked.slice(0, 1024)}`);
  if (wheel.publishedAt === null) warnings.push(`${id}: the index does not tell when it was published.`);
  const { native } = contents;
  if (native.length > 0) {
    const some = native.slice(0, 3).join(", ");
    warnings.push(
      `${id} has machine code: ${some}${native.length > 3 ? ` and ${native.length - 3} other files` : ""}.`,
    );
  }
  for (const directory of SYSTEM_PATH) {
    const known = contents.commands.filter((command) => planning.list(directory).includes(command));
    for (const command of known)
      warnings.push(`${id} brings a command ${command}, which ${directory} has too.`);
  }
  for (const { name } of contents.scripts)
    if (/\.pth$|customize(?:\/__init__)?\.py$/.test(name))
      warnings.push(`${id}: ${name} is run by every Python that finds it in its own directory.`);
  return warnings;
}

function provenanceOf({ wheel, provenance }: PlannedWheel): ProvenanceEvidence[] {
  const hash: ProvenanceEvidence = {
    kind: "pypi-sha256",
    subject: `${wheel.name}==${wheel.version}`,
    verified: true,
    key: null,
    detail: `${wheel.filename} is the file of the index: sha256:${wheel.sha256}`,
  };
  return [hash, ...provenance.evidence];
}
