/** What calls a lesson off, or takes a strike back: says first what becomes of the money, and asks why. */
import { Answers, Modal } from "../parts/dialog";
import { Form, Submit, TextField } from "../parts/form";
import { toast } from "../parts/toast";
import { call, codeOf, serverNow } from "../server";
import type { BookingView } from "../wire";
import { t } from "./texts";
import { consequence, refused, type Side } from "./words";

interface Options {
  deed: "decline" | "withdraw" | "cancel";
  booking: BookingView;
  side: Side;
  /** By how much the lesson's clock is ahead of the server's. */
  ahead: number;
  changed: () => Promise<void>;
  close: (isDone: boolean) => void;
}

export function Undo({ deed, booking, side, ahead, changed, close }: Options) {
  const isAdmin = side === "neither";
  const hint = isAdmin ? t().reasonNeeded : t().reasonHint;
  async function undo({ reason = "" }: Record<string, string>): Promise<void> {
    const asked = { booking_id: booking.id, reason: reason.trim() === "" ? null : reason };
    try {
      await (deed === "decline" ? call("booking.decline", asked) : call("booking.cancel", { ...asked, version: booking.version }));
    } catch (error) {
      // Below the dialog stands what it is about.
      if (codeOf(error) in t().refusals) void changed();
      throw refused(error, t().refusals);
    }
    toast(deed === "decline" ? t().declinedToast : deed === "withdraw" ? t().withdrawnToast : t().cancelledToast);
    close(true);
  }
  return (
    <Modal title={t().sure[deed]} close={() => close(false)}>
      <p>{consequence(booking, side, serverNow() + ahead)}</p>
      <Form submit={undo}>
        <TextField name="reason" label={t().reason} hint={hint} refusal={hint} rows={2} maxLength={500} required={isAdmin} />
        <Answers close={() => close(false)} isCancelling>
          <Submit isDangerous>{t()[deed]}</Submit>
        </Answers>
      </Form>
    </Modal>
  );
}

export function LiftStrike({ booking, close }: { booking: BookingView; close: (isDone: boolean) => void }) {
  async function lift({ reason = "" }: Record<string, string>): Promise<void> {
    await call("admin.strike.lift", { booking_id: booking.id, reason });
    toast(t().lifted);
    close(true);
  }
  return (
    <Modal title={t().liftSure} close={() => close(false)}>
      <p class="soft">{t().liftWhy}</p>
      <Form submit={lift}>
        <TextField name="reason" label={t().reason} hint={t().reasonNeeded} refusal={t().reasonNeeded} rows={2} maxLength={500} required />
        <Answers close={() => close(false)}>
          <Submit>{t().liftStrike}</Submit>
        </Answers>
      </Form>
    </Modal>
  );
}
