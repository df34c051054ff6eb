import { Cvss2, Cvss3P0, Cvss3P1, Cvss4P0 } from "ae-cvss-calculator";

/** The required base metrics and their values, from the specifications' tables. */
const BASE_2 = "AV:LAN AC:HML Au:MSN C:NPC I:NPC A:NPC";
const BASE_3 = "AV:NALP AC:LH PR:NLH UI:NR S:UC C:HLN I:HLN A:HLN";
const BASE_4 = "AV:NALP AC:LH AT:NP PR:NLH UI:NPA VC:HLN VI:HLN VA:HLN SC:HLN SI:HLN SA:HLN";

/**
 * The base score, 0–10, of a CVSS 2.0, 3.0, 3.1 or 4.0 vector; null for anything else, including a vector with an
 * unknown, missing or repeated metric. Threat, temporal and environmental metrics must be valid but are ignored: they
 * could only lower the score of the vulnerability itself.
 * @see https://www.first.org/cvss/v2/guide, https://www.first.org/cvss/v3.1/specification-document,
 * https://www.first.org/cvss/v4.0/specification-document
 */
export function cvssBaseScore(vector: string): number | null {
  const [, prefix = "", metrics = ""] =
    /^(CVSS:[34]\.[01]\/)?([A-Za-z]+:[A-Za-z]+(?:\/[A-Za-z]+:[A-Za-z]+)*)$/.exec(vector) ?? [];
  if (metrics === "") return null;
  switch (prefix) {
    case "":
      return scoreOf(new Cvss2(), metrics, BASE_2, (cvss) => cvss.calculateScores().base);
    case "CVSS:3.0/":
      return scoreOf(new Cvss3P0(), metrics, BASE_3, (cvss) => cvss.calculateScores().base);
    case "CVSS:3.1/":
      return scoreOf(new Cvss3P1(), metrics, BASE_3, (cvss) => cvss.calculateScores().base);
    case "CVSS:4.0/":
      return scoreOf(new Cvss4P0(), metrics, BASE_4, (cvss) => cvss.calculateScores().baseMetricsOnly);
    default:
      return null;
  }
}

type Cvss = Cvss2 | Cvss3P0 | Cvss3P1 | Cvss4P0;

/**
 * Sets the base metrics on an empty vector. Parsing a complete vector, the library takes the last of two values,
 * ignores unknown metrics, and scores half a vector 0; and its base score changes once other metrics are set (1.0.13).
 */
function scoreOf<T extends Cvss>(
  cvss: T,
  metrics: string,
  base: string,
  score: (cvss: T) => number | undefined,
): number | null {
  const missing = new Map(base.split(" ").map((metric) => [metric.split(":")[0], metric.split(":")[1]]));
  const seen = new Set<string>();
  for (const metric of metrics.split("/")) {
    const [name = "", value = ""] = metric.split(":");
    const component = cvss.findComponent(name);
    if (component?.shortName !== name || !component.values.some((one) => one.shortName === value))
      return null;
    if (seen.has(name)) return null;
    seen.add(name);
    const values = missing.get(name);
    if (values === undefined) continue;
    if (value.length !== 1 || !values.includes(value)) return null;
    cvss.applyComponentString(name, value);
    missing.delete(name);
  }
  return missing.size === 0 ? (score(cvss) ?? null) : null;
}
