import {
  artifactSettings,
  cratesThatRun,
  isMutable,
  isResolved,
  lessTrusted,
  newlyPublished,
  publishedTooLately,
  registries,
  scriptsThat,
  unaccountedContent,
  unverifiedArtifacts,
} from "./policy-facts.ts";
import { isOfImage, rootImages, unattestedImages, unsignedImages } from "./policy-images.ts";
import type { Rule } from "./policy-rule.ts";
import { scanScript } from "./policy-scripts.ts";
import { atLeast, isGrave, vulnerabilities } from "./policy-vulnerabilities.ts";

/*
 * Rules about the content of a change: known vulnerabilities, scripts, and the artifacts of npm, pip and the others.
 */

/** Denied. */
export const CONTENT_DENIED: readonly Rule[] = [
  {
    id: "vulnerability-denied",
    looks_at: "vulnerabilities",
    decision: "deny",
    reason:
      "a version to be installed has a vulnerability that is exploited, or of a severity that the policy denies",
    fires: (f) => {
      const { deny, remaining } = f.config.vulnerability;
      return vulnerabilities(f, (weight, isOld) => atLeast(weight, deny) && (remaining === "deny" || !isOld));
    },
  },
  {
    id: "script-downloads-and-runs",
    looks_at: "scripts",
    decision: "deny",
    reason: "a script combines a download with shell execution",
    fires: (f) => scriptsThat(f, (body) => scanScript(body).downloadAndExecute),
  },
  {
    id: "script-obfuscated",
    looks_at: "scripts",
    decision: "deny",
    reason: "a script is obfuscated",
    fires: (f) => scriptsThat(f, (body) => scanScript(body).obfuscated),
  },
  {
    id: "artifact-mutable",
    looks_at: "artifact",
    decision: "deny",
    reason: "a target is not pinned to one exact version; name the version",
    fires: (f) => artifactSettings(f) !== null && isMutable(f),
  },
  {
    id: "artifact-unresolved",
    looks_at: "artifact",
    decision: "deny",
    reason: "no version was found for a target; the plan's warnings say why",
    fires: (f) => artifactSettings(f) !== null && !isResolved(f),
  },
  {
    id: "artifact-unverified",
    looks_at: "artifact",
    decision: "deny",
    reason: "no signature or checksum of a package was verified; the plan's warnings say what was missing",
    fires: (f) => artifactSettings(f) !== null && unverifiedArtifacts(f, () => true),
  },
  {
    id: "rollback-unverified",
    looks_at: "artifact",
    decision: "deny",
    reason: "what a rollback would bring back did not all come by executions, so nothing vouches for it",
    fires: unaccountedContent,
  },
  {
    id: "artifact-registry",
    looks_at: "artifact",
    decision: "deny",
    reason: "a registry is not in allowed_registries, where the policy's owner can add it",
    fires: (f) => {
      const allowed = artifactSettings(f)?.allowed_registries;
      return allowed !== undefined && registries(f).filter((host) => !allowed.includes(host));
    },
  },
  {
    id: "artifact-too-new",
    looks_at: "artifact",
    decision: "deny",
    reason:
      "a version was published less than minimum_age_days ago, or its registry doesn't tell when; name older versions, or wait",
    fires: (f) => {
      const days = artifactSettings(f)?.minimum_age_days ?? 0;
      return days > 0 && publishedTooLately(f, days);
    },
  },
  {
    id: "publisher-change",
    looks_at: "artifact",
    decision: "deny",
    reason:
      "the publisher of a package changed less than minimum_age_days ago; name a version of the former one, or wait",
    fires: (f) => newlyPublished(f, artifactSettings(f)?.minimum_age_days ?? 0),
  },
  {
    id: "trust-downgrade",
    looks_at: "artifact",
    decision: "deny",
    reason:
      "a package lacks a valid signature or provenance that it claims, or that earlier versions had; the plan's evidence says which",
    fires: lessTrusted,
  },
  {
    id: "artifact-provenance",
    looks_at: "artifact",
    decision: "deny",
    reason: "require_provenance is set, and no build attestation was verified; name a version that has one",
    fires: (f) =>
      artifactSettings(f)?.require_provenance === true &&
      !isOfImage(f) &&
      f.plan.tool !== "nuget" &&
      f.plan.tool !== "vscode" &&
      unverifiedArtifacts(f, (kind) => kind.endsWith("-attestation")),
  },
  {
    id: "nuget-signature",
    looks_at: "artifact",
    decision: "deny",
    reason:
      "require_provenance is set, and a package has no verified signature of its source, nor of an author in [nuget] authors; the plan's evidence names the signers and their certificates",
    fires: (f) =>
      artifactSettings(f)?.require_provenance === true &&
      f.plan.tool === "nuget" &&
      unverifiedArtifacts(f, (kind) => kind.startsWith("nuget-") && kind.endsWith("-signature")),
  },
  {
    id: "vscode-signature",
    looks_at: "artifact",
    decision: "deny",
    reason:
      "require_provenance is set, and an extension has no verified signature of its gallery, or not by one of [vscode] signing_keys and certificates; plan it from a gallery that signs (Open VSX), or have the key or certificate added there that the plan's evidence names",
    fires: (f) => {
      const { require_provenance: isRequired, signing_keys: keys } = f.config.vscode;
      const counts = (key: string | null) => keys.length === 0 || (key !== null && keys.includes(key));
      return (
        f.plan.tool === "vscode" &&
        artifactSettings(f) !== null &&
        isRequired &&
        unverifiedArtifacts(
          f,
          (kind, key) => (kind === "vscode-signature" && counts(key)) || kind === "vscode-cms-signature",
        )
      );
    },
  },
  {
    id: "image-provenance",
    looks_at: "artifact",
    decision: "deny",
    reason:
      "require_provenance is set, and no build attestation of the image is by one of [container] signers; plan an image that has one, or have its builder added there",
    fires: (f) => isOfImage(f) && artifactSettings(f)?.require_provenance === true && unattestedImages(f),
  },
  {
    id: "image-signature",
    looks_at: "artifact",
    decision: "deny",
    reason:
      "require_signature is set, and no signature of the image is by one of [container] signers; ask its publisher to sign it (cosign sign), or have the signer added there",
    fires: (f) =>
      isOfImage(f) &&
      artifactSettings(f) !== null &&
      f.config.container.require_signature &&
      unsignedImages(f),
  },
  {
    id: "image-root-user",
    looks_at: "artifact",
    decision: "deny",
    reason:
      "the image's process starts as root, and allow_root_user is false; plan an image that names a user (USER), or have it allowed in [container]",
    fires: (f) =>
      isOfImage(f) && artifactSettings(f) !== null && !f.config.container.allow_root_user && rootImages(f),
  },
  {
    id: "cargo-build-scripts",
    looks_at: "scripts",
    decision: "deny",
    reason:
      "code of crates would run while they are built; [cargo] allow_build_scripts = true leaves it to a person",
    fires: (f) => artifactSettings(f) !== null && !f.config.cargo.allow_build_scripts && cratesThatRun(f),
  },
];

/** For a person to decide: the package brings code that runs before anybody starts it, or that nobody can read. */
export const CONTENT_RUNS_CODE: readonly Rule[] = [
  {
    id: "lifecycle-scripts",
    looks_at: "scripts",
    decision: "require_human",
    reason: "the package has scripts that the package manager runs",
    fires: (f) => f.plan.scripts_detected || f.plan.scripts.length > 0,
  },
  {
    id: "build-hooks",
    looks_at: "artifact",
    decision: "require_human",
    reason: "the package runs its own code while it is built",
    fires: (f) => f.plan.build_hooks_detected,
  },
  {
    id: "native-code",
    looks_at: "artifact",
    decision: "require_human",
    reason: "the package compiles or loads native code",
    fires: (f) => f.plan.native_code_risk,
  },
  {
    id: "bundled-binaries",
    looks_at: "artifact",
    decision: "require_human",
    reason: "the package contains or downloads prebuilt binaries",
    fires: (f) => f.plan.binary_artifact_risk,
  },
];

/** Vulnerabilities below the policy's denial that a person still has to decide about. */
export const VULNERABILITY_GRAVE: Rule = {
  id: "vulnerability-grave",
  looks_at: "vulnerabilities",
  decision: "require_human",
  reason:
    "a version to be installed has a vulnerability of high or unknown severity, one that the policy denies, or could not be looked up",
  fires: (f) =>
    // Of what the policy would deny, that which remains.
    vulnerabilities(f, (weight) => isGrave(weight) || atLeast(weight, f.config.vulnerability.deny)),
};
