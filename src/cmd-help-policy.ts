import { type PolicyTable, settingsOf } from "./cmd-help-policy-keys.ts";
import type { Block } from "./cmd-help-text.ts";
import { SYSTEM } from "./paths.ts";
import { decisionOf, reasonOf } from "./policy.ts";
import { parsePolicyConfig } from "./policy-config.ts";
import { RULES } from "./policy-rules.ts";

/** The policy file, from the schema that reads it, and the rules, from the table that judges. */
export function policyText(): readonly Block[] {
  const defaults = parsePolicyConfig("", "built-in");
  const settings = settingsOf(defaults);
  return [
    `TOML. Read from the first of \`AEGIS_POLICY_CONFIG\`, ~/.config/aegis/policy.toml and ${SYSTEM.policy}; without any of them the built-in defaults hold. The executor reads only ${SYSTEM.policy}, and only if nobody but root can write it. An unknown key or a wrong type is an error, and nothing is decided until it is corrected. Keys and their defaults:`,
    ...settings.filter(({ known }) => !known).flatMap(tableOf),
    "The tables of the other ecosystems have the keys of `[npm]`, with the same meaning:",
    {
      terms: settings
        .filter(({ known }) => known)
        .map(({ table, keys }) => [
          `\`[${table}]\``,
          keys.map(({ key, value }) => `${key} = ${value}`).join(", "),
        ]),
    },
    "Decisions are `allow`, `allow_with_snapshot`, `require_human` and `deny`, from the mildest to the strictest. Every rule is judged, the strictest decision wins, and all reasons are reported. `aegis policy rules` shows what each decides under the configuration in force; with the defaults:",
    {
      terms: RULES.map((rule) => {
        const decision = decisionOf(rule, defaults);
        const control = rule.control === undefined ? "" : ` (also needs: ${rule.control})`;
        return [`\`${rule.id}\``, `${decision}: ${reasonOf(rule, decision)}${control}`];
      }),
    },
    "A repository is trusted when its InRelease file verifies with the distribution's own keyring, or, for a third party's, with the key that its `Signed-By` names. A review only adds: whatever it says, no decision, control or reason of the rules goes away.",
    "`aegis policy report <file>…` reads signed plans, verifies them with the keys given, and reports what recurs in approvals and which policy tests that suggests (`--out` as JSON); with `--lm` a model's wording is added, marked as untrusted. It changes, approves and signs nothing.",
  ];
}

function tableOf({ table, keys }: PolicyTable): Block[] {
  return [`\`[${table}]\``, { terms: keys.map(({ key, value, means }) => [`\`${key} = ${value}\``, means]) }];
}
