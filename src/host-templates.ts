import { SYSTEM } from "./paths.ts";
import { KEPT_MIB } from "./sys-environment-file.ts";

/*
 * Configuration files as install writes them once, for an administrator to fill in.
 */

export const TRUSTED_KEYS = `# The keys that this host's executor trusts. Changes take effect without a restart.
# \`aegis sign trust add <file>.pub\` adds what \`aegis sign keygen --role <role> --name <name>\` made; secret keys don't belong here.
#
# [[key]]
# id = "…"
# name = "ops@example"              # signs as this name only
# public_key_hex = "…"
# role = "execution"                # execution: signs plans; approval: approves them, and belongs to another person
# not_after = 2027-01-01T00:00:00Z  # optional, as is not_before
# revoked = false
`;

export const DAEMON_ENV = `# Settings of the executor, NAME=value. An unknown name is an error: the executor then refuses every plan.
#AEGIS_LOG=info
#AEGIS_LOG_FORMAT=json
#AEGIS_AUDIT_ROTATE_MIB=256
# How much room package files have that are kept for rollbacks.
#AEGIS_KEPT_MIB=${KEPT_MIB}
#AEGIS_OSV_DIR=/var/lib/osv
#AEGIS_OSV_URL=http://localhost:8080
# Registries that plans come from, where they aren't the public ones. Everybody can read this file: credentials
# belong in registries.toml, mode 0600 (aegis help files).
#AEGIS_NPM_REGISTRY=https://registry.npmjs.org/
#AEGIS_PIP_INDEX_URL=https://pypi.org/simple/
#AEGIS_GOPROXY=https://proxy.golang.org
#AEGIS_GOSUMDB=sum.golang.org
#AEGIS_CARGO_INDEX=sparse+https://index.crates.io/
#AEGIS_NUGET_SOURCE=https://api.nuget.org/v3/index.json
#AEGIS_VSCODE_GALLERY=https://open-vsx.org/vscode/gallery
# Keys without a name; prefer ${SYSTEM.trustedKeys}
#AEGIS_SIGNING_PUBLIC_KEY_HEX=
#AEGIS_APPROVAL_PUBLIC_KEY_HEX=
`;

export const FEEDS_ENV = `# Where vulnerability data comes from (aegis daemon install --feeds), NAME=value. An unknown name is an error. Addresses are https:
# mirrors, too. "off" in place of an address: not downloaded. Apply: systemctl start aegis-feeds
#AEGIS_FEEDS_ECOSYSTEMS=Debian npm PyPI Go crates.io NuGet VSCode
#AEGIS_FEEDS_OSV=https://osv-vulnerabilities.storage.googleapis.com
#AEGIS_FEEDS_VEX=https://security-metadata.canonical.com/vex/vex-all.tar.xz
#AEGIS_FEEDS_KEV=https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json
#AEGIS_FEEDS_EPSS=https://epss.empiricalsecurity.com/epss_scores-current.csv.gz
#AEGIS_FEEDS_PROXY=http://proxy.example:3128
`;

export const REVIEWER_ENV = `# Settings of the reviewer, NAME=value. An unknown name is an error. Apply: systemctl restart aegis-reviewd
#AEGIS_AI_BASE_URL=http://localhost:8000/v1
#AEGIS_AI_MODEL=deepseek-v4-flash
#AEGIS_AI_API_KEY=
#AEGIS_AI_ALLOW_REMOTE=0
#AEGIS_AI_RESPONSE_FORMAT_JSON=1
#AEGIS_AI_MAX_OUTPUT_TOKENS=4096
#AEGIS_AI_REVIEW_TIMEOUT_SECS=
#AEGIS_LOG=info
#AEGIS_LOG_FORMAT=json
`;
