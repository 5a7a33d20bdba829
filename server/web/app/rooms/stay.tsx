/** A lesson, in which time is money, is left on purpose only: Back asks first, and so does the browser when its window is closed. */
import { useEffect, useState } from "preact/hooks";
import { Dialog } from "../parts/dialog";
import { t } from "./texts";

interface Held {
  isHeld?: true;
}

export function Stay({ leave }: { leave: () => void }) {
  const [isAsking, setAsking] = useState(false);
  useEffect(() => {
    const here = location.href;
    const isOnTop = () => location.href === here && (history.state as Held | null)?.isHeld === true;
    // Back takes away one more entry of this page, and not the page.
    const hold = () => history.pushState({ isHeld: true } satisfies Held, "", here);
    const back = () => {
      if (location.href !== here || isOnTop()) return;
      hold();
      setAsking(true);
    };
    const unload = (event: BeforeUnloadEvent) => event.preventDefault();
    // A page that was loaded again has it already.
    if (!isOnTop()) hold();
    addEventListener("popstate", back);
    addEventListener("beforeunload", unload);
    return () => {
      removeEventListener("popstate", back);
      removeEventListener("beforeunload", unload);
      if (isOnTop()) history.back();
    };
  }, []);
  if (!isAsking) return null;
  return (
    <Dialog title={t().leaveTitle} confirm={t().leaveLesson} isDangerous close={(isConfirmed) => (isConfirmed ? leave() : setAsking(false))}>
      <p>{t().lessonOverWhy.left}</p>
    </Dialog>
  );
}
