/** The frame round every page: navigation, connection, language, and which page it is. */
import { effect, signal } from "@preact/signals";
import { lazy, LocationProvider, Route as At, Router, useLocation } from "preact-iso";
import { useEffect } from "preact/hooks";
import { isFor, type PageProperties, type Route } from "../feature";
import logo from "../icons/logo.svg";
import { Bell } from "../notifications/bell";
import { Icon } from "../parts/icon";
import { Missing, NoAccess, Pending } from "../parts/states";
import { Toasts } from "../parts/toast";
import { PLACES, ROUTES } from "../routes";
import { connection, Refused, returned } from "../server";
import { me } from "../session";
import { language, speak } from "../texts";
import { Strip } from "./strip";
import { t } from "./texts";

export function Shell() {
  return (
    <LocationProvider>
      <Frame />
    </LocationProvider>
  );
}

function Frame() {
  const { path } = useLocation();
  return (
    <div class={`shell ${me.value === null ? "guest" : ""}`}>
      <a class="visually-hidden" href="#main" target="_top">
        {t().skip}
      </a>
      <Strip />
      {isTurning.value && <div class="turning" role="progressbar" aria-label={t().loading} />}
      <header class="bar">
        <div class="top">
          <a class="brand" href="/">
            <Icon drawing={logo} />
            <span>fourtalk</span>
          </a>
          {me.value && <Bell isCurrent={isIn(path, "/notifications")} />}
        </div>
        {/* Who was here before has the frame of a member from the start, so that nothing moves when it is known who it is. */}
        {me.value === null ? <Entrance /> : <Navigation />}
      </header>
      <main class="main" id="main" tabIndex={-1}>
        <Pages />
      </main>
      <Toasts />
    </div>
  );
}

function Navigation() {
  const { path } = useLocation();
  const account = me.value;
  return (
    <>
      <nav class="tabs" aria-label={t().navigation}>
        <ul>
          {PLACES.filter((place) => isFor(place.for, account)).map((place) => (
            <li key={place.path}>
              <a href={place.path} aria-current={[place.path, ...(place.also ?? [])].some((one) => isIn(path, one)) ? "page" : undefined}>
                <Icon drawing={place.icon} />
                {place.name[language.value]}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      {account && (
        <p class="who">
          <strong>
            {account.first_name} {account.last_name}
          </strong>
          <span class="faint">{account.email}</span>
        </p>
      )}
    </>
  );
}

function Entrance() {
  const { path } = useLocation();
  const other = language.value === "en" ? "vi" : "en";
  return (
    <div class="row">
      <button type="button" class="button quiet" lang={other} onClick={() => speak(other)}>
        {t().otherLanguage}
      </button>
      {path !== "/login" && (
        <a class="button" href="/login">
          {t().logIn}
        </a>
      )}
    </div>
  );
}

/** A page was asked for whose file is on its way; the one before stays until then. */
const isTurning = signal(false);
const PAGES = ROUTES.map((route) => [route.path, guarded(route)] as const);

function Pages() {
  return (
    <Router onLoadStart={() => (isTurning.value = true)} onLoadEnd={() => (isTurning.value = false)} onRouteChange={arrive}>
      {[
        ...PAGES.map(([path, Page]) => <At key={path} path={path} component={Page} />),
        <At key="missing" default component={Missing} />,
      ]}
    </Router>
  );
}

/** A page whose file did not come: the network is away, or a newer client has other files. */
function Unloaded() {
  useEffect(() => {
    const before = returned.peek();
    // A file that does not come although the network is there would not come the next time either.
    let wasAway = !navigator.onLine;
    const ends = [
      connection.subscribe(({ status }) => (wasAway ||= status === "offline")),
      returned.subscribe((times) => wasAway && times !== before && location.reload()),
    ];
    return () => ends.forEach((end) => end());
  }, []);
  return <Pending title={t().unloaded} heights={[]} error={new Refused("offline", "the page could not be loaded")} again={() => location.reload()} />;
}

/** A page for whom it is meant; who is not logged in comes back to it after the login. */
function guarded(route: Route) {
  const Page = lazy(() => route.page().catch(() => ({ default: Unloaded })));
  return function Guarded({ params }: PageProperties) {
    const { route: go, url } = useLocation();
    const account = me.value;
    const isGuest = account === null && route.for !== "everybody";
    useEffect(() => {
      if (isGuest) go(`/login?next=${encodeURIComponent(url)}`, true);
    }, [isGuest]);
    if (account === undefined && route.for !== "everybody") return <Pending title={t().loading} heights={["3rem", "12rem"]} />;
    if (isGuest) return null;
    return isFor(route.for, account) ? <Page key={account?.id ?? "guest"} params={params} /> : <NoAccess />;
  };
}

let hasArrived = false;

/** A new page begins at its top, for eyes and for readers; the first one does so by itself. */
function arrive(): void {
  if (hasArrived) {
    scrollTo(0, 0);
    document.getElementById("main")?.focus({ preventScroll: true });
  }
  hasArrived = true;
}

function isIn(path: string, place: string): boolean {
  return place === "/" ? path === "/" : path === place || path.startsWith(`${place}/`);
}

effect(() => {
  if (typeof document !== "undefined") document.documentElement.lang = language.value;
});
