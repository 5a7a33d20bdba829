/** What all pages of operators share: the heading, and the way from one to another. */
import { useLocation } from "preact-iso";
import type { ComponentChildren } from "preact";
import { Title } from "../parts/title";
import { me } from "../session";
import { t } from "./texts";

export const SECTIONS = ["live", "tutors", "users", "withdrawals", "disputes", "reviews", "money", "jobs", "webhooks", "policy", "revenue"] as const;
export type Section = (typeof SECTIONS)[number];

export function Frame({ title, beside, children }: { title: string; beside?: ComponentChildren; children: ComponentChildren }) {
  const { path } = useLocation();
  return (
    <div class="operate">
      <Title beside={beside}>{title}</Title>
      <nav class="sections" aria-label={t().sectionsLabel}>
        <ul>
          {SECTIONS.filter((section) => section !== "revenue" || me.value?.role === "owner").map((section) => (
            <li key={section}>
              <a href={`/admin/${section}`} aria-current={path.startsWith(`/admin/${section}`) ? "page" : undefined}>
                {t().sections[section]}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      {children}
    </div>
  );
}
