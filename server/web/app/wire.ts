// Made by `fourtalk schema` from the server's structs; not to be edited. `uv run fourtalk schema wire.ts --out server/web/app`

export type Id = string;
/** RFC 3339, in UTC. */
export type Instant = string;
/** A date without a time: `2026-11-26`. */
export type Day = string;

/** Every command: what it takes and what it answers. */
export interface Operations {
  "admin.room.journal": { d: ReadJournal; ok: JournalPage };
  "admin.room.list": { d: ListRooms; ok: RoomPage };
  "admin.strike.lift": { d: LiftStrike; ok: BookingView };
  "admin.tutor.approve": { d: ApproveTutor; ok: ManagedAccount };
  "admin.tutor.profile": { d: GetTutorProfile; ok: ProfileView };
  "admin.tutor.reject": { d: RejectTutor; ok: ManagedAccount };
  "admin.user.block": { d: Block; ok: ManagedAccount };
  "admin.user.list": { d: ListUsers; ok: Users };
  "admin.user.names": { d: NameUsers; ok: NamedUsers };
  "admin.user.role": { d: ChangeRole; ok: ManagedAccount };
  "admin.user.unblock": { d: Unblock; ok: ManagedAccount };
  "admin.webhook.list": { d: ListWebhooks; ok: WebhookPage };
  "admin.withdrawal.approve": { d: ApproveWithdrawal; ok: WithdrawalView };
  "admin.withdrawal.complete": { d: CompleteWithdrawal; ok: WithdrawalView };
  "admin.withdrawal.hold": { d: HoldWithdrawal; ok: WithdrawalView };
  "admin.withdrawal.let_go": { d: LetWithdrawalGo; ok: WithdrawalView };
  "admin.withdrawal.list": { d: ListAllWithdrawals; ok: WithdrawalPage };
  "admin.withdrawal.reject": { d: RejectWithdrawal; ok: WithdrawalView };
  "admin.withdrawal.retry": { d: RetryWithdrawal; ok: WithdrawalView };
  "admin.withdrawal.reveal": { d: RevealBankAccount; ok: BankAccountView };
  "auth.login": { d: LogIn; ok: Tokens };
  "auth.logout": { d: LogOut; ok: LoggedOut };
  "auth.refresh": { d: Refresh; ok: Tokens };
  "auth.register": { d: Register; ok: Tokens };
  "auth.reset_confirm": { d: ConfirmReset; ok: PasswordIsSet };
  "auth.reset_request": { d: RequestReset; ok: ResetRequested };
  "auth.reset_verify": { d: VerifyReset; ok: ResetHolds };
  "auth.ticket": { d: MakeTicket; ok: Ticket };
  "booking.accept": { d: AcceptBooking; ok: BookingView };
  "booking.cancel": { d: CancelBooking; ok: BookingView };
  "booking.decline": { d: DeclineBooking; ok: BookingView };
  "booking.get": { d: GetBooking; ok: BookingView };
  "booking.list": { d: ListBookings; ok: BookingPage };
  "booking.pay": { d: PayBooking; ok: CardAsked };
  "booking.quote": { d: QuoteBooking; ok: BookingQuote };
  "booking.request": { d: RequestBooking; ok: BookingView };
  "chat.delete": { d: DeleteChat; ok: Noted };
  "chat.edit": { d: EditChat; ok: Said };
  "chat.read": { d: ReadChat; ok: Noted };
  "chat.send": { d: SendChat; ok: Said };
  "connect": { d: Connect; ok: Connected };
  "course.cancel": { d: CancelCourse; ok: CourseView };
  "course.create": { d: CreateCourse; ok: CourseView };
  "course.get": { d: GetCourse; ok: CourseView };
  "course.list": { d: ListCourses; ok: CoursePage };
  "course.publish": { d: PublishCourse; ok: CourseView };
  "course.revenue": { d: GetRevenue; ok: Revenue };
  "course.session.add": { d: AddSession; ok: SessionView };
  "course.session.cancel": { d: CancelSession; ok: SessionView };
  "course.session.list": { d: ListSessions; ok: SessionList };
  "course.session.update": { d: UpdateSession; ok: SessionView };
  "course.students": { d: ListStudents; ok: BuyerPage };
  "course.unpublish": { d: UnpublishCourse; ok: CourseView };
  "course.update": { d: UpdateCourse; ok: CourseView };
  "dispute.get": { d: GetDispute; ok: DisputeView };
  "dispute.list": { d: ListDisputes; ok: DisputePage };
  "dispute.open": { d: OpenDispute; ok: DisputeView };
  "dispute.resolve": { d: ResolveDispute; ok: DisputeView };
  "earnings.get": { d: GetEarnings; ok: EarningsView };
  "earnings.spend": { d: SpendEarnings; ok: Spent };
  "history": { d: ReadHistory; ok: HistoryPage };
  "hold.get": { d: GetHold; ok: HoldDetail };
  "hold.list": { d: ListHolds; ok: HoldPage };
  "hold.paper": { d: GetHoldPaper; ok: Blob };
  "hold.receipt": { d: GetReceipt; ok: Signed };
  "hold.refund": { d: RefundHold; ok: HoldRefund };
  "hold.release": { d: ReleaseHold; ok: HoldRelease };
  "job.list": { d: ListJobs; ok: JobPage };
  "job.retry": { d: RetryJob; ok: Revived };
  "ledger.reverse": { d: ReverseJournal; ok: ReversedView };
  "login.end_all": { d: EndLogins; ok: LoggedOut };
  "login.list": { d: ListLogins; ok: Logins };
  "me.get": { d: GetMe; ok: Account };
  "me.update": { d: UpdateMe; ok: UpdatedAccount };
  "notification.count": { d: CountUnread; ok: Unread };
  "notification.list": { d: ListNotifications; ok: NotificationPage };
  "notification.read": { d: ReadNotification; ok: NotificationView };
  "notification.read_all": { d: ReadAll; ok: Unread };
  "package.buy": { d: BuyPackage; ok: PackageView };
  "package.get": { d: GetPackage; ok: PackageView };
  "package.list": { d: ListPackages; ok: PackagePage };
  "package.quote": { d: QuotePackage; ok: PackageQuote };
  "package.refund": { d: RefundPackage; ok: PackageView };
  "package_option.browse": { d: BrowseOptions; ok: OptionPage };
  "package_option.create": { d: CreateOption; ok: OptionView };
  "package_option.hide": { d: HideOption; ok: OptionView };
  "package_option.list": { d: ListOptions; ok: OptionList };
  "package_option.update": { d: UpdateOption; ok: OptionView };
  "payment_method.list": { d: ListMethods; ok: MethodList };
  "payment_method.remove": { d: RemoveMethod; ok: MethodRemoved };
  "payout_account.get": { d: GetPayoutAccount; ok: PayoutAccountView };
  "payout_account.onboard": { d: OnboardPayouts; ok: Onboarding };
  "payout_account.set_bank": { d: SetBankAccount; ok: PayoutAccountView };
  "payout_account.stripe": { d: GetStripeAccount; ok: StripeAccountView };
  "ping": { d: Ping; ok: Pong };
  "policy.get": { d: GetPolicy; ok: PolicyView };
  "policy.list": { d: ListPolicies; ok: PolicyPage };
  "policy.preview": { d: PreviewPolicy; ok: PolicyPreview };
  "policy.set": { d: SetPolicy; ok: PolicyVersion };
  "presence.set": { d: SetPresence; ok: Done };
  "purchase.cancel": { d: CancelPurchase; ok: ChangedPurchase };
  "purchase.confirm": { d: ConfirmPurchase; ok: ChangedPurchase };
  "purchase.get": { d: GetPurchase; ok: PurchaseView };
  "purchase.list": { d: ListPurchases; ok: PurchasePage };
  "purchase.quote": { d: QuotePurchase; ok: Quote };
  "receipt.key": { d: GetReceiptKey; ok: ReceiptKey };
  "referral.check": { d: CheckCode; ok: CodeOwner };
  "referral.list": { d: ListReferrals; ok: ReferralPage };
  "referral.summary": { d: GetReferrals; ok: ReferralSummary };
  "refresh": { d: ProtocolRefresh; ok: Refreshed };
  "revenue.get": { d: RevenueGetRevenue; ok: RevenueView };
  "review.close": { d: CloseReview; ok: ReviewView };
  "review.list": { d: ListReviews; ok: ReviewPage };
  "room.attendance": { d: GetAttendance; ok: AttendanceView };
  "room.close": { d: CloseRoom; ok: Ended };
  "room.end_preview": { d: PreviewEnd; ok: EndPreview };
  "room.get": { d: GetRoom; ok: Snapshot };
  "room.join": { d: JoinRoom; ok: Seated | Waiting };
  "room.kick": { d: KickFromRoom; ok: Ended };
  "room.leave": { d: LeaveRoom; ok: Ended };
  "room.media_state": { d: ShowMediaState; ok: Ended };
  "room.send": { d: SendToRoom; ok: Done };
  "room.signal": { d: Signal; ok: Ended };
  "subscribe": { d: Subscribe; ok: SubscriptionView };
  "talk.close": { d: CloseTalk; ok: TalkView };
  "talk.create": { d: CreateTalk; ok: TalkView };
  "talk.get": { d: GetTalk; ok: TalkView };
  "talk.history": { d: ListHistory; ok: TalksHistoryPage };
  "talk.list": { d: ListTalks; ok: TalkPage };
  "talk.participants": { d: ListParticipants; ok: ParticipantList };
  "talk.update": { d: UpdateTalk; ok: TalkView };
  "top_up.get": { d: GetTopUp; ok: TopUpView };
  "top_up.list": { d: ListTopUps; ok: TopUpPage };
  "top_up.paper": { d: GetTopUpPaper; ok: Blob };
  "top_up.start": { d: StartTopUp; ok: TopUpView };
  "tutor.get": { d: GetTutor; ok: TutorView };
  "tutor.list": { d: ListTutors; ok: TutorPage };
  "tutor_profile.get": { d: GetProfile; ok: ProfileView };
  "tutor_profile.submit": { d: SubmitProfile; ok: ProfileView };
  "tutor_profile.update": { d: UpdateProfile; ok: ProfileView };
  "typing.start": { d: Typing; ok: Done };
  "typing.stop": { d: Typing; ok: Done };
  "unsubscribe": { d: Unsubscribe; ok: Done };
  "wallet.adjust": { d: AdjustWallet; ok: Adjusted };
  "wallet.entries": { d: ListEntries; ok: EntryPage };
  "wallet.entry.paper": { d: GetEntryPaper; ok: Blob };
  "wallet.get": { d: GetWallet; ok: WalletView };
  "wallet.goodwill": { d: GiveGoodwill; ok: GoodwillView };
  "wallet.statement": { d: GetStatement; ok: StatementView };
  "wallet.statement.paper": { d: GetStatementPaper; ok: Blob };
  "wallet.statement.table": { d: GetStatementTable; ok: Blob };
  "withdrawal.export": { d: ExportWithdrawals; ok: Blob };
  "withdrawal.list": { d: ListWithdrawals; ok: WithdrawalPage };
  "withdrawal.request": { d: RequestWithdrawal; ok: WithdrawalView };
}

/** Every event: its `d`. */
export interface Events {
  "attendance.updated": AttendanceUpdated;
  "booking.updated": BookingUpdated;
  "dispute.updated": DisputeUpdated;
  "hold.placed": HoldPlaced;
  "hold.refunded": HoldRefunded;
  "hold.released": HoldReleased;
  "message.created": MessageShown;
  "message.deleted": MessageGone;
  "message.read": MessageReadShown;
  "message.updated": MessageShown;
  "notification.created": NotificationView;
  "package.bought": PackageBought;
  "package.ending": PackageEnding;
  "package.expired": PackageExpired;
  "package.lesson_returned": PackageLessonReturned;
  "package.refunded": PackageRefunded;
  "participant.evicted": ParticipantEvicted;
  "participant.joined": Participant;
  "participant.kicked": ParticipantKicked;
  "participant.left": ParticipantLeft;
  "participant.media": MediaStateShown;
  "participant.updated": ParticipantChanged;
  "payment.authorized": PaymentAuthorized;
  "payment.captured": PaymentCaptured;
  "payment.refunded": PaymentRefunded;
  "payment.voided": PaymentVoided;
  "presence.diff": PresenceDiff;
  "queue.updated": QueueUpdated;
  "room.closed": RoomEnding;
  "room.closing": RoomEnding;
  "room.message": RoomMessage;
  "room.opened": RoomOpenedShown;
  "room.signal": SignalShown;
  "room.updated": RoomChanged;
  "seat.offered": SeatOfferShown;
  "session.ended": SessionShown;
  "session.started": SessionShown;
  "talk.listed": ListedTalk;
  "talk.unlisted": TalkGone;
  "top_up.updated": TopUpUpdated;
  "typing": TypingShown;
  "wallet.updated": WalletView;
  "withdrawal.updated": WithdrawalUpdated;
}

/** Routes of what is asked without a socket, below `/api/v1`. */
export const HTTP = {
  "auth.login": ["POST", "/auth/login"],
  "auth.logout": ["POST", "/auth/logout"],
  "auth.refresh": ["POST", "/auth/refresh"],
  "auth.register": ["POST", "/auth/register"],
  "auth.reset_confirm": ["POST", "/auth/password/reset-confirm"],
  "auth.reset_request": ["POST", "/auth/password/reset-request"],
  "auth.reset_verify": ["POST", "/auth/password/verify-token"],
  "auth.ticket": ["POST", "/auth/ws-ticket"],
  "course.get": ["GET", "/courses/{course_id}"],
  "course.list": ["GET", "/courses"],
  "course.session.list": ["GET", "/courses/{course_id}/sessions"],
  "hold.paper": ["GET", "/holds/{hold_id}/receipt.pdf"],
  "package_option.browse": ["GET", "/package-options"],
  "package_option.list": ["GET", "/tutors/{tutor_id}/package-options"],
  "policy.get": ["GET", "/policy"],
  "receipt.key": ["GET", "/receipts/key"],
  "referral.check": ["GET", "/referrals/codes/{code}"],
  "talk.get": ["GET", "/talks/{talk_id}"],
  "talk.list": ["GET", "/talks"],
  "top_up.paper": ["GET", "/top-ups/{top_up_id}/receipt.pdf"],
  "tutor.get": ["GET", "/tutors/{tutor_id}"],
  "tutor.list": ["GET", "/tutors"],
  "wallet.entry.paper": ["GET", "/wallet/entries/{entry_id}/receipt.pdf"],
  "wallet.statement.paper": ["GET", "/wallet/statement.pdf"],
  "wallet.statement.table": ["GET", "/wallet/statement.csv"],
  "withdrawal.export": ["GET", "/withdrawals/export"],
} as const;

/** The socket's errors by name. */
export interface Errors {
  internal: 100;
  unauthorized: 101;
  unknown_channel: 102;
  permission_denied: 103;
  unknown_op: 104;
  already_subscribed: 105;
  limit_exceeded: 106;
  bad_request: 107;
  not_available: 108;
  token_expired: 109;
  too_many_requests: 111;
  unrecoverable_position: 112;
  room_full: 120;
  room_closed: 121;
  banned: 122;
  seat_expired: 123;
  conflict: 124;
  idempotency_mismatch: 125;
  overloaded: 130;
  timeout_unknown_outcome: 132;
}

/** What went wrong, for programs: the name of the socket's error, or what says it more closely. */
export type ErrorCode = keyof Errors | "account_blocked" | "already_disputed" | "already_held" | "already_reversed" | "bad_signature" | "balance_limit" | "card_declined" | "dispute_not_found" | "dispute_state" | "dispute_too_late" | "entry_not_found" | "hold_not_found" | "hold_not_held" | "hold_not_settled" | "idempotency_key_required" | "insufficient_funds" | "invalid_amount" | "invalid_event" | "invalid_idempotency_key" | "job_not_found" | "journal_not_found" | "lease_lost" | "lesson_not_settled" | "lesson_not_taken" | "lesson_over" | "login_failed" | "message_not_found" | "no_payout_account" | "not_found" | "not_paid_by_card" | "not_reversible" | "not_settled" | "nothing_to_dispute" | "option_not_found" | "package_exhausted" | "package_not_found" | "package_over" | "package_refund_over" | "payment_method_not_found" | "payment_mismatch" | "payment_not_found" | "payment_state" | "payment_unsettled" | "payments_unavailable" | "payout_account_frozen" | "payout_under_way" | "policy_before_planned" | "policy_effective_from_far" | "policy_effective_from_past" | "policy_invalid" | "policy_moved" | "policy_unchanged" | "profile_incomplete" | "profile_waits" | "quote_invalid" | "reason_too_short" | "refund_too_large" | "registration_refused" | "reset_link_invalid" | "review_closed" | "review_not_found" | "seal_broken" | "sealing_stopped" | "second_person_needed" | "statement_too_long" | "stripe_refused" | "top_up_not_found" | "top_up_out_of_range" | "unknown_currency" | "withdrawal_held" | "withdrawal_not_found" | "withdrawal_state" | "withdrawal_too_small";

/** Why the server closes a socket. */
export interface CloseCodes {
  bad_request: 4000;
  auth_failed: 4001;
  forbidden: 4003;
  protocol_version: 4004;
  connection_limit: 4005;
  auth_timeout: 4007;
  flood: 4008;
  frame_too_big: 4009;
  overloaded: 4100;
  rate_limited: 4101;
  too_many_errors: 4102;
  internal: 4103;
  drain: 4200;
  token_expired: 4201;
  no_pong: 4202;
  state_invalidated: 4203;
  slow_consumer: 4205;
}

/** Agree to a request. */
export interface AcceptBooking {
  booking_id: Id;
  version?: number | null;
}

/** The own account. */
export interface Account {
  id: Id;
  email: string;
  first_name: string;
  last_name: string;
  role: Role;
  timezone: string;
  locale: string;
  created_at: Instant;
  region?: string | null;
  tutor_status?: TutorStatus | null;
  referral_code?: string | null;
}

/** Purpose of an account. Balance = credits - debits; what we owe to somebody never falls below zero. */
export type AccountKind = "wallet" | "escrow" | "earnings_pending" | "earnings" | "tutor_debt" | "withdrawal" | "card_refund" | "frozen" | "platform_revenue" | "platform_expense" | "stripe" | "stripe_disputed" | "bank" | "suspense";

/** Announce the date of a session. */
export interface AddSession {
  course_id: Id;
  number: number;
  title: string;
  starts_at: Instant;
  duration_minutes: number;
}

/** Give somebody credit, or take it. */
export interface AdjustWallet {
  user_id: Id;
  money: WalletAmount;
  reason: string;
}

/** An adjustment that was made, and the balance after it. */
export interface Adjusted {
  id: string;
  user_id: Id;
  money: Money;
  reason: string;
  balance: Money;
}

/** What was changed after the settlement; the three parts replace the former ones. */
export interface Adjustment {
  cause: Cause;
  tutor_share: Money;
  platform_share: Money;
  refunded: Money;
  reason: string | null;
  attendance: Attendance | null;
  at: Instant;
}

/** How much of the earnings; the terms say how little a withdrawal may be. */
export interface Amount {
  amount: number;
  currency: "USD";
}

/** Let a tutor teach, from any state. */
export interface ApproveTutor {
  user_id: Id;
}

/** Say yes to a withdrawal. */
export interface ApproveWithdrawal {
  withdrawal_id: Id;
}

/** The facts that a settlement looked at. */
export interface Attendance {
  scheduled_s: number;
  total_s: number;
  attended_s: number;
  percent: number;
  required_s: number;
  threshold_percent: number;
  intervals: readonly Interval[];
  confidence: string;
  tutor_attended_s: number;
  tutor_required_s: number;
}

/** One person's presence in a lesson. */
export interface AttendanceRow {
  user_id: string;
  attended_s: number;
  required_s: number;
  percent: number;
  reached: boolean;
  intervals: readonly MessagesInterval[];
  confidence: string;
}

/** `attendance.updated`, to the person and to the tutor. */
export interface AttendanceUpdated {
  room_id: string;
  user_id: string;
  attended_s: number;
  required_s: number;
  reached: boolean;
}

/** Presence of everybody who was ever in the lesson. */
export interface AttendanceView {
  type: "attendance";
  scheduled_s: number;
  frozen: boolean;
  people: readonly AttendanceRow[];
}

/** What became of the settled holds of a period. */
export interface BackTestOutcome {
  released: number;
  refunded: number;
  to_tutors: Money;
  to_platform: Money;
  to_students: Money;
}

/** Bank data in clear. */
export interface BankAccountView {
  bank_name: string;
  account_number: string;
  account_holder: string;
  branch: string | null;
  swift: string | null;
}

/** Shut a user out. */
export interface Block {
  user_id: Id;
  reason: string;
}

/** A page of bookings. */
export interface BookingPage {
  items: readonly BookingView[];
  next_cursor: string | null;
}

/** How the payment of a booking stands. */
export interface BookingPaid {
  method: PaymentMethod;
  state: PaymentState;
  captured: Money;
  refunded: Money;
}

/** What a lesson costs now; nothing is charged. */
export interface BookingQuote {
  tutor_id: Id;
  tutor_name: string;
  minutes: number;
  hourly_rate: Money;
  price: Money;
  balance: Money;
  shortfall: Money;
  packages: readonly UsablePackage[];
  cancel_rule: string;
}

/** Life of a booking (ED-43 to ED-49). */
export type BookingStatus = "requested" | "scheduled" | "active" | "ended" | "cancelled" | "expired";

/** `booking.updated`, to both parties. */
export interface BookingUpdated {
  booking_id: Id;
  version: number;
  status: BookingStatus;
}

/** A booking as its parties and administrators see it. */
export interface BookingView {
  id: Id;
  status: BookingStatus;
  outcome: Outcome | null;
  student_id: Id;
  student_name: string;
  tutor_id: Id;
  tutor_name: string;
  starts_at: Instant;
  ends_at: Instant;
  minutes: number;
  topic: string;
  notes: string;
  student_timezone: string;
  tutor_timezone: string;
  price: Money;
  hourly_rate: Money | null;
  package_id: Id | null;
  payment: BookingPaid | null;
  hold_id: Id | null;
  room_id: Id | null;
  answer_by: Instant;
  free_cancel_until: Instant;
  late_cancel_percent: number;
  cancelled_by: Party | null;
  reason: string | null;
  has_strike: boolean;
  requested_at: Instant;
  accepted_at: Instant | null;
  started_at: Instant | null;
  ended_at: Instant | null;
  version: number;
}

/** What students brought: sold = earned + platform + held + refunded. */
export interface Brought {
  sold: Money;
  earned: Money;
  platform: Money;
  held: Money;
  refunded: Money;
}

/** Ask what tutors offer, the newest first. */
export interface BrowseOptions {
  limit?: number;
  cursor?: string | null;
}

/** Buy what was quoted. */
export interface BuyPackage {
  option_id: Id;
  terms: string;
}

/** A student as the tutor sees them. */
export interface Buyer {
  student_id: Id;
  name: string;
  purchase_id: Id;
  kind: PurchaseKind;
  session_id: Id | null;
  status: PurchaseStatus;
  price: Money;
  attribution: "platform" | "referral";
  created_at: Instant;
}

/** A page of buyers. */
export interface BuyerPage {
  items: readonly Buyer[];
  next_cursor: string | null;
}

/** Withdraw a request, or cancel a lesson that is agreed. */
export interface CancelBooking {
  booking_id: Id;
  reason?: string | null;
  version?: number | null;
}

/** Cancel an upcoming course: all money goes back. */
export interface CancelCourse {
  course_id: Id;
  reason?: string | null;
}

/** Give back what has not begun; an administrator says why. */
export interface CancelPurchase {
  purchase_id: Id;
  reason?: string | null;
}

/** Cancel a session that has not begun: its holds are refunded. */
export interface CancelSession {
  course_id: Id;
  session_id: Id;
  reason?: string | null;
}

/** Where the card of a booking stands, and what its student does next. */
export interface CardAsked {
  booking_id: Id;
  state: PaymentState;
  client_secret: string | null;
  is_setup: boolean;
  failure: string | null;
  test: boolean;
}

/** Why a hold was settled as it was. */
export type Cause = "attendance" | "tutor_absent" | "cancelled" | "outcome" | "forfeited" | "admin" | "adjustment" | "refund" | "dispute" | "card_dispute" | "expired";

/** Give a user another role; admin and owner are the owner's to give and take. */
export interface ChangeRole {
  user_id: Id;
  role: Role;
  reason: string;
}

/** A purchase after money moved, with what the buyer has now. */
export interface ChangedPurchase {
  id: Id;
  kind: PurchaseKind;
  status: PurchaseStatus;
  payment: "held" | "partly_settled" | "settled";
  course_id: Id;
  course_title: string;
  session_id: Id | null;
  student_id: Id;
  tutor: Tutor;
  price: Money;
  refunded: Money;
  split: Split;
  holds: readonly PurchaseHold[];
  created_at: Instant;
  ended_at: Instant | null;
  reason: string | null;
  balance: Money;
}

/** What is to be different from the version before; a field for each of the terms. What is absent stays. */
export interface Changes {
  course_platform_bps?: number;
  course_referral_bps?: number;
  booking_tiers?: readonly Tier[];
  tiers_count_everything?: boolean;
  attendance_percent?: number;
  min_price?: number;
  course_risk_days?: number;
  booking_risk_days?: number;
  free_cancel_hours?: number;
  free_cancel_kindness_minutes?: number;
  late_cancel_percent?: number;
  dispute_days?: number;
  goodwill_admin_most?: number;
  goodwill_most?: number;
  package_expiry?: string;
  package_warning_days?: number;
  package_refund_days?: number;
  top_up_least?: number;
  top_up_most?: number;
  withdrawal_least?: number;
  withdrawal_two_people_above?: number;
  payout_freeze_hours?: number;
}

/** A position with its channel, for `connect`. */
export interface ChannelSince {
  epoch: string;
  off: number;
  ch: string;
}

/** One chat message as everybody sees it. */
export interface ChatMessage {
  type: "message";
  id: Id;
  user_id: string;
  text: string;
  sent_at: Instant;
  edited_at: Instant | null;
}

/** Ask whose code this is, before somebody registers with it. */
export interface CheckCode {
  code: string;
}

/** What the client calls itself; for the log. */
export interface Client {
  name?: string;
  version?: string;
}

/** Say that one was looked at, and what came of it. */
export interface CloseReview {
  review_id: Id;
  notes: string;
}

/** Close a talk, or end a running lesson. */
export interface CloseRoom {
  room_id: Id;
}

/** Close an open talk; its host or an admin. */
export interface CloseTalk {
  talk_id: Id;
}

/** One code of a tutor. */
export interface Code {
  code: string;
  course_id: Id | null;
  course_title: string | null;
  share_link: string;
  registered: number;
}

/** Whose code it is. */
export interface CodeOwner {
  code: string;
  tutor_id: Id;
  tutor_name: string;
  course_id: Id | null;
  course_title: string | null;
}

/** Write down that the bank transfer was made. */
export interface CompleteWithdrawal {
  withdrawal_id: Id;
  reference: string;
}

/** Buy what was quoted. */
export interface ConfirmPurchase {
  quote_token: string;
}

/** Set a new password by a link, once. */
export interface ConfirmReset {
  token: string;
  password: string;
}

/** First message: who it is, and where it left off. */
export interface Connect {
  token?: string | null;
  ticket?: string | null;
  client?: Client;
  since?: readonly ChannelSince[];
}

/** The answer to `connect`. */
export interface Connected {
  conn: string;
  user: UserView;
  server_time: number;
  ping_s: number;
  pong_s: number;
  limits: Record<string, unknown>;
  subs: Record<string, SubscriptionView>;
}

/** What one kind of movement that belongs to no lesson did to the platform's money; below zero: it cost that. */
export interface Cost {
  kind: JournalKind;
  amount: Money;
}

/** How many are not read yet. */
export interface CountUnread {
}

/** A page of courses. */
export interface CoursePage {
  items: readonly CourseSummary[];
  next_cursor: string | null;
}

/** Life of a course (F4-61 to F4-63). */
export type CourseStatus = "upcoming" | "ongoing" | "completed" | "cancelled";

/** A course in a list. */
export interface CourseSummary {
  id: Id;
  title: string;
  description: string;
  language: string;
  level: "A1" | "A2" | "B1" | "B2" | "C1" | "C2";
  category: string;
  duration_hours: number;
  total_sessions: number;
  scheduled_sessions: number;
  price_type: PriceType;
  price_per_session: Money | null;
  price_full_course: Money | null;
  max_students: number;
  current_students: number;
  status: CourseStatus;
  publication: Publication;
  tutor: Tutor;
  share_link: string;
  created_at: Instant;
}

/** A course on its page. */
export interface CourseView {
  id: Id;
  title: string;
  description: string;
  language: string;
  level: "A1" | "A2" | "B1" | "B2" | "C1" | "C2";
  category: string;
  duration_hours: number;
  total_sessions: number;
  scheduled_sessions: number;
  price_type: PriceType;
  price_per_session: Money | null;
  price_full_course: Money | null;
  max_students: number;
  current_students: number;
  status: CourseStatus;
  publication: Publication;
  tutor: Tutor;
  share_link: string;
  created_at: Instant;
  seats_left: number;
  sessions: readonly SessionView[];
  qr_svg: string;
}

/** Make a draft. */
export interface CreateCourse {
  title: string;
  description: string;
  language: string;
  level: "A1" | "A2" | "B1" | "B2" | "C1" | "C2";
  category: string;
  duration_hours: number;
  total_sessions: number;
  price_type: PriceType;
  price_per_session?: Price | null;
  price_full_course?: Price | null;
  max_students?: number;
}

/** Offer lessons at a price. */
export interface CreateOption {
  title: string;
  description?: string;
  minutes: number;
  sessions: number;
  price: PackagesPrice;
  validity_days?: number | null;
  is_rolling?: boolean;
  is_popular?: boolean;
  position?: number;
}

/** Open a free-talk room; the caller is its host and has a seat. */
export interface CreateTalk {
  title: string;
  language: string;
  description?: string;
  level?: "A1" | "A2" | "B1" | "B2" | "C1" | "C2" | null;
  topic?: string | null;
  max_participants?: number;
  public?: boolean;
  region?: string | null;
  starts_at?: Instant | null;
}

/** Say no to a request. */
export interface DeclineBooking {
  booking_id: Id;
  reason?: string | null;
}

/** Delete a message. */
export interface DeleteChat {
  message_id: Id;
  ch?: string | null;
  room_id?: Id | null;
}

/** A page of disputes. */
export interface DisputePage {
  items: readonly DisputeView[];
  next_cursor: string | null;
}

/** What a dispute is about. */
export type DisputeReason = "tutor_no_show" | "session_quality" | "technical_issues" | "incorrect_charge" | "unauthorised_charge" | "not_as_described" | "other" | "contradicting_evidence";

/** Life of a dispute: open → resolved, one way or the other. Before it there is no row. */
export type DisputeStatus = "open" | "resolved_upheld" | "resolved_refunded";

/** What the windows of both parties see. */
export interface DisputeUpdated {
  dispute_id: string;
  status: DisputeStatus;
}

/** A dispute as its parties and administrators see it. */
export interface DisputeView {
  id: Id;
  hold_id: Id;
  student_id: Id;
  tutor_id: Id;
  opened_by: string;
  reason: DisputeReason;
  text: string;
  status: DisputeStatus;
  amount: Money;
  rest: Money;
  refunded: Money | null;
  notes: string | null;
  opened_at: Instant;
  resolved_at: Instant | null;
}

/** It is so now. */
export interface Done {
}

/** What was paid out to a tutor. */
export interface Earnings {
  pending: Money;
  available: Money;
}

/** How much of the earnings; the terms say how little a withdrawal may be. */
export interface EarningsAmount {
  amount: number;
  currency?: "USD";
}

/** What a tutor earned, and where it is now. */
export interface EarningsView {
  standing: Standing;
  since: Day;
  until: Day;
  timezone: string;
  periods: readonly Period[];
  shares: readonly Share[];
  tier: Progress;
  withdrawal_least: Money;
}

/** Change an own message. */
export interface EditChat {
  message_id: Id;
  text: string;
  ch?: string | null;
  room_id?: Id | null;
}

/** Log out everywhere, here too: every token ends, and every socket. */
export interface EndLogins {
}

/** What would become of everybody's money. Whoever stays away a moment longer may change it. */
export interface EndPreview {
  left_s: number;
  tutor_absent: boolean;
  to_tutor: Money;
  to_platform: Money;
  to_students: Money;
  students: readonly StudentIfEnded[];
}

/** It is so now. */
export interface Ended {
}

/** A page of entries. */
export interface EntryPage {
  items: readonly EntryView[];
  next_cursor: string | null;
}

/** What one movement did to one account of the caller. */
export interface EntryView {
  id: string;
  account: AccountKind;
  kind: JournalKind;
  amount: Money;
  reason: string;
  reference: Reference;
  at: Instant;
}

/** How much is known about who was there. */
export interface EvidenceCount {
  count: number;
  newest_at: Instant | null;
}

/** What the student was shown, in minor units. */
export interface ExpectedPrice {
  amount: number;
  currency?: "USD";
}

/** Ask for the caller's withdrawals as a table. */
export interface ExportWithdrawals {
  status?: WithdrawalStatus | null;
}

/** Who was in a lesson how long. */
export interface GetAttendance {
  room_id: Id;
}

/** Ask for one booking. */
export interface GetBooking {
  booking_id: Id;
}

/** Ask for one course. */
export interface GetCourse {
  course_id: Id;
}

/** Ask for one dispute. */
export interface GetDispute {
  dispute_id: Id;
}

/** Ask what the caller earned, by their own calendar. */
export interface GetEarnings {
  by?: "day" | "month";
  since?: Day | null;
  until?: Day | null;
}

/** Ask for the paper of one movement. */
export interface GetEntryPaper {
  entry_id: string;
}

/** Ask for one hold. */
export interface GetHold {
  hold_id: Id;
}

/** Ask for the paper of a hold that was settled. */
export interface GetHoldPaper {
  hold_id: Id;
}

/** Ask for the own account. */
export interface GetMe {
}

/** Ask for one package. */
export interface GetPackage {
  package_id: Id;
}

/** Ask where the caller's money goes. */
export interface GetPayoutAccount {
}

/** Ask for the terms in force. */
export interface GetPolicy {
}

/** Ask for the own profile. */
export interface GetProfile {
}

/** Ask for one purchase. */
export interface GetPurchase {
  purchase_id: Id;
}

/** Ask for the receipt of a settled hold. */
export interface GetReceipt {
  hold_id: Id;
}

/** Ask with which key receipts are signed. */
export interface GetReceiptKey {
}

/** Ask for the caller's code, and what it brought. */
export interface GetReferrals {
}

/** Ask what a course has earned. */
export interface GetRevenue {
  course_id: Id;
}

/** A room as its page shows it; a closed one too. */
export interface GetRoom {
  room_id: Id;
}

/** Ask what happened to one account of the caller in a period of their own calendar. */
export interface GetStatement {
  account?: "earnings" | "earnings_pending" | "wallet";
  since?: Day | null;
  until?: Day | null;
  kind?: JournalKind | null;
}

/** Ask for a statement as a numbered paper. */
export interface GetStatementPaper {
  account?: "earnings" | "earnings_pending" | "wallet";
  since?: Day | null;
  until?: Day | null;
  kind?: JournalKind | null;
}

/** Ask for a statement as a table for a spreadsheet. */
export interface GetStatementTable {
  account?: "earnings" | "earnings_pending" | "wallet";
  since?: Day | null;
  until?: Day | null;
  kind?: JournalKind | null;
}

/** Ask how far the caller's account at Stripe is. */
export interface GetStripeAccount {
}

/** One talk, by its id, the id of its room, or the code of its link. */
export interface GetTalk {
  talk_id: string;
}

/** Ask how a top-up of the caller stands; the payer's browser does, when it comes back. */
export interface GetTopUp {
  top_up_id: Id;
}

/** Ask for the paper of a top-up that succeeded. */
export interface GetTopUpPaper {
  top_up_id: Id;
}

/** Ask for one tutor's public page. */
export interface GetTutor {
  tutor_id: Id;
}

/** Ask for a tutor's profile, to decide about it. */
export interface GetTutorProfile {
  user_id: Id;
}

/** Ask what the caller has. */
export interface GetWallet {
}

/** What is given. */
export interface Gift {
  amount: number;
  currency?: "USD";
}

/** Give somebody credit for trouble that they had. */
export interface GiveGoodwill {
  user_id: Id;
  money: WalletGift;
  why: GoodwillReason;
  reason: string;
}

/** What we are sorry for (B-08f). */
export type GoodwillReason = "tutor_no_show" | "outage" | "payment_error" | "minor_trouble" | "major_trouble";

/** Goodwill that was given, and the balance after it. */
export interface GoodwillView {
  id: string;
  user_id: Id;
  money: Money;
  why: GoodwillReason;
  balance: Money;
}

/** Take an offer off sale, or put it back. */
export interface HideOption {
  option_id: Id;
  hidden?: boolean;
}

/** A page of a channel's past. */
export interface HistoryPage {
  epoch: string;
  off: number;
  events: readonly unknown[];
  more: boolean;
}

/** A hold that explains itself in the caller's language. */
export interface HoldDetail {
  id: Id;
  student_id: Id;
  tutor_id: Id;
  lesson_id: Id | null;
  source_kind: SourceKind;
  source_id: Id;
  slice_no: number;
  status: HoldStatus;
  amount: Money;
  tutor_bps: number;
  attribution: string;
  tutor_share: Money;
  platform_share: Money;
  refunded: Money;
  cause: Cause | null;
  settled_by: "admin" | "student" | "system" | "tutor" | null;
  reason: string | null;
  adjustments: readonly Adjustment[];
  policy: Policy;
  attendance: Attendance | null;
  placed_at: Instant;
  settled_at: Instant | null;
  title: string | null;
  explanation: string;
}

/** A page of holds. */
export interface HoldPage {
  items: readonly HoldDetail[];
  next_cursor: Id | null;
}

/** Money was set aside. */
export interface HoldPlaced {
  type: "hold.placed";
  hold_id: Id;
  student_id: Id;
  tutor_id: Id;
  lesson_id: Id | null;
  source_kind: SourceKind;
  source_id: Id;
  amount: Money;
}

/** What was given back now, and what still can be. */
export interface HoldRefund {
  hold_id: Id;
  refunded: Money;
  from_tutor: Money;
  owed: Money;
  rest: Money;
}

/** Money was given back. */
export interface HoldRefunded {
  type: "hold.refunded";
  hold_id: Id;
  student_id: Id;
  tutor_id: Id;
  lesson_id: Id | null;
  source_kind: SourceKind;
  source_id: Id;
  amount: Money;
  cause: Cause;
  reason: string | null;
}

/** What was paid out, and what went back. */
export interface HoldRelease {
  hold_id: Id;
  tutor_share: Money;
  platform_share: Money;
  refunded: Money;
}

/** Money was paid out by the split. */
export interface HoldReleased {
  type: "hold.released";
  hold_id: Id;
  student_id: Id;
  tutor_id: Id;
  lesson_id: Id | null;
  source_kind: SourceKind;
  source_id: Id;
  amount: Money;
  tutor_share: Money;
  platform_share: Money;
  cause: Cause;
}

/** Life of a hold: held → released, or held → refunded. Never further. */
export type HoldStatus = "held" | "released" | "refunded";

/** Stop a withdrawal for a while. */
export interface HoldWithdrawal {
  withdrawal_id: Id;
  reason: string;
}

/** Who opened a talk. */
export interface Host {
  user_id: Id;
  name: string;
}

/** A half-open span of presence, and what it is known from (`{"from", "to", "sources"}` on the wire). */
export interface Interval {
  from: Instant;
  to: Instant;
  sources: readonly string[];
}

/** A page of jobs. */
export interface JobPage {
  items: readonly JobView[];
  next_cursor: Id | null;
}

/** One row as an administrator sees it; the payload stays here, it may name people. */
export interface JobView {
  id: Id;
  kind: string;
  key: string;
  state: "dead" | "running" | "waiting";
  run_at: Instant;
  tries: number;
  error: string | null;
  dead_at: Instant | null;
  every_s: number | null;
  last_run_at: Instant | null;
  last_duration_ms: number | null;
  last_count: number | null;
}

/** Take a seat, or get the one already held; with `queue` wait for one. */
export interface JoinRoom {
  room_id: Id;
  queue?: boolean;
}

/** One step of a room's life. */
export interface JournalEntry {
  seq: number;
  off: number | null;
  fence: number;
  type: string;
  actor: string | null;
  at: Instant;
  recorded_at: Instant;
  facts: Record<string, unknown>;
}

/** What moved money. */
export type JournalKind = "purchase" | "refund" | "settlement" | "adjustment" | "admin_adjustment" | "top_up" | "card_fee" | "card_refund" | "card_dispute" | "maturity" | "earnings_spent" | "withdrawal" | "dispute" | "debt" | "goodwill" | "expiry" | "bank_transfer" | "reversal";

/** A room as it is now, and a page of what happened in it, the oldest first. */
export interface JournalPage {
  room: RoomView;
  items: readonly JournalEntry[];
  next_cursor: number | null;
  now: Instant;
}

/** Remove somebody; with `ban` for the life of the room. */
export interface KickFromRoom {
  room_id: Id;
  user_id: Id;
  ban?: boolean;
}

/** Give up the seat, the offer or the place in the queue. */
export interface LeaveRoom {
  room_id: Id;
}

/** Let a withdrawal that was held go on. */
export interface LetWithdrawalGo {
  withdrawal_id: Id;
}

/** Take a strike back. */
export interface LiftStrike {
  booking_id: Id;
  reason: string;
}

/** Ask for everybody's withdrawals, newest first. */
export interface ListAllWithdrawals {
  status?: WithdrawalStatus | null;
  tutor_id?: Id | null;
  limit?: number;
  cursor?: string | null;
}

/** Ask for the caller's bookings, as student and as tutor, latest start first; everybody's for an administrator. */
export interface ListBookings {
  status?: BookingStatus | null;
  limit?: number;
  cursor?: string | null;
}

/** Find published courses, newest first; with `mine`, the caller's own in any state. */
export interface ListCourses {
  mine?: boolean;
  status?: CourseStatus | null;
  category?: string | null;
  level?: "A1" | "A2" | "B1" | "B2" | "C1" | "C2" | null;
  language?: string | null;
  price_type?: PriceType | null;
  q?: string | null;
  limit?: number;
  cursor?: string | null;
}

/** Ask for the disputes in which the caller is student or tutor, newest first; an administrator sees all. */
export interface ListDisputes {
  hold_id?: Id | null;
  status?: DisputeStatus | null;
  limit?: number;
  cursor?: string | null;
}

/** Ask what moved the caller's money, newest first. */
export interface ListEntries {
  limit?: number;
  cursor?: string | null;
}

/** The caller's own past and present talks, hosted or joined, newest first; an administrator sees all. */
export interface ListHistory {
  status?: RoomStatus | null;
  limit?: number;
  cursor?: string | null;
}

/** Ask for the holds in which the caller is student or tutor, newest first; an administrator sees all. */
export interface ListHolds {
  status?: HoldStatus | null;
  limit?: number;
  cursor?: Id | null;
}

/** Ask for work that waits, runs or was given up, newest first. */
export interface ListJobs {
  state?: "dead" | "running" | "waiting" | null;
  limit?: number;
  cursor?: Id | null;
}

/** Ask where the caller is logged in. */
export interface ListLogins {
}

/** Ask for the caller's saved cards. */
export interface ListMethods {
}

/** A page of one's own notifications, newest first. */
export interface ListNotifications {
  unread?: boolean;
  limit?: number;
  cursor?: string | null;
}

/** Ask what a tutor offers; the tutor also sees what is hidden. */
export interface ListOptions {
  tutor_id: Id;
}

/** Ask for the packages that the caller bought or sold, newest first; an administrator sees all. */
export interface ListPackages {
  status?: PackageStatus | null;
  limit?: number;
  cursor?: string | null;
}

/** Ask who is and was in a talk; for its host and administrators. */
export interface ListParticipants {
  talk_id: Id;
}

/** Ask for all versions of the terms, the newest first. */
export interface ListPolicies {
  limit?: number;
  cursor?: number | null;
}

/** Ask for the own purchases, newest first; an administrator sees everybody's. */
export interface ListPurchases {
  status?: PurchaseStatus | null;
  limit?: number;
  cursor?: string | null;
}

/** Ask who came by the caller, the newest first. */
export interface ListReferrals {
  limit?: number;
  cursor?: string | null;
}

/** Ask for settlements that late evidence contradicts, newest first. */
export interface ListReviews {
  state?: "closed" | "open";
  limit?: number;
  cursor?: string | null;
}

/** Ask for rooms as they are at this moment, newest first; without a state, all that are not closed. */
export interface ListRooms {
  state?: RoomStatus | null;
  limit?: number;
  cursor?: string | null;
}

/** Ask for the sessions of a course. */
export interface ListSessions {
  course_id: Id;
}

/** Ask who bought, newest first. */
export interface ListStudents {
  course_id: Id;
  status?: PurchaseStatus | null;
  limit?: number;
  cursor?: string | null;
}

/** Public talks that are open and not full, newest first; or those that are full. */
export interface ListTalks {
  nearby?: boolean;
  region?: string | null;
  language?: string | null;
  level?: "A1" | "A2" | "B1" | "B2" | "C1" | "C2" | null;
  topic?: string | null;
  full?: boolean;
  limit?: number;
  cursor?: string | null;
}

/** Ask for the caller's top-ups, newest first. */
export interface ListTopUps {
  limit?: number;
  cursor?: Id | null;
}

/** Find tutors who may teach, those who joined last first. */
export interface ListTutors {
  subject?: string | null;
  language?: string | null;
  limit?: number;
  cursor?: string | null;
}

/** Look for accounts, newest first. */
export interface ListUsers {
  role?: Role | null;
  tutor_status?: TutorStatus | null;
  email?: string | null;
  search?: string | null;
  limit?: number;
  cursor?: string | null;
}

/** Ask for what a provider told us, newest first; with `waiting` only what nobody has taken in yet. */
export interface ListWebhooks {
  provider: "livekit" | "stripe";
  waiting?: boolean;
  limit?: number;
  cursor?: string | null;
}

/** Ask for the caller's withdrawals, newest first. */
export interface ListWithdrawals {
  status?: WithdrawalStatus | null;
  limit?: number;
  cursor?: string | null;
}

/** A talk in a list. */
export interface ListedTalk {
  id: Id;
  room_id: Id;
  code: string;
  share_link: string;
  title: string;
  description: string;
  language: string;
  level: string | null;
  topic: string | null;
  region: string | null;
  city: string | null;
  public: boolean;
  max_participants: number;
  seats: SeatCount;
  state: RoomStatus;
  host: Host;
  starts_at: Instant | null;
  created_at: Instant;
  closed_at: Instant | null;
}

/** Where LiveKit is, and what lets this person in, once and soon. */
export interface LiveKitAccess {
  provider: "livekit";
  url: string;
  token: string;
}

/** Open a session with e-mail and password. */
export interface LogIn {
  email: string;
  password: string;
}

/** End the session of a refresh token, from the body or its cookie. */
export interface LogOut {
  refresh_token?: string | null;
}

/** The session is over, or was already. */
export interface LoggedOut {
}

/** One login that still holds. */
export interface LoginView {
  id: Id;
  address: string | null;
  created_at: Instant;
  used_at: Instant;
}

/** Every login that still holds, the last used first. */
export interface Logins {
  items: readonly LoginView[];
}

/** Ask for a ticket that connects one socket. */
export interface MakeTicket {
}

/** An account as administrators see it. */
export interface ManagedAccount {
  id: Id;
  email: string;
  first_name: string;
  last_name: string;
  role: Role;
  tutor_status: TutorStatus | null;
  referral_code: string | null;
  blocked: boolean;
  created_at: Instant;
}

/** What the evidence that was known by then proves. */
export interface Measured {
  known_until: Instant;
  total_s: number;
  attended_s: number;
  percent: number;
  threshold_percent: number;
  intervals: readonly Interval[];
  tutor_attended_s: number;
  tutor_threshold_percent: number;
  tutor_required_s: number;
}

/** `participant.media` on the room's channel. */
export interface MediaStateShown {
  user_id: string;
  state: unknown;
}

/** `message.deleted`. */
export interface MessageGone {
  id: Id;
  by: string;
}

/** `message.read`: everything up to this message. */
export interface MessageReadShown {
  id: Id;
  user_id: string;
}

/** Which message it was. */
export interface MessageRef {
  id: Id;
}

/** `message.created` and `message.updated`. */
export interface MessageShown {
  id: Id;
  user_id: string;
  text: string;
  sent_at: Instant;
  edited_at: Instant | null;
}

/** Half-open time in the lesson's window and where the knowledge comes from. */
export interface MessagesInterval {
  from: Instant;
  to: Instant;
  sources: readonly string[];
}

/** All saved cards of somebody. */
export interface MethodList {
  items: readonly MethodView[];
  next_cursor: null;
  test: boolean;
}

/** It is forgotten. */
export interface MethodRemoved {
  id: string;
  test: boolean;
}

/** One saved card. */
export interface MethodView {
  id: string;
  brand: string;
  last4: string;
  exp_month: number;
  exp_year: number;
}

/** An amount in minor units of one currency; negative where it leaves somebody. */
export interface Money {
  amount: number;
  currency: string;
}

/** Ask who some people are, of whom a list has only the ids. */
export interface NameUsers {
  user_ids: readonly Id[];
}

/** Who somebody is. */
export interface NamedUser {
  id: Id;
  name: string;
  email: string;
}

/** Those of them that there are. */
export interface NamedUsers {
  items: readonly NamedUser[];
}

/** It is so now, for this message. */
export interface Noted {
  message: MessageRef;
}

/** A page of notifications. */
export interface NotificationPage {
  items: readonly NotificationView[];
  next_cursor: string | null;
  unread: number;
}

/** A notification, in the list and when it is pushed as `notification.created`. */
export interface NotificationView {
  id: Id;
  type: string;
  title: string;
  text: string;
  data: Record<string, unknown>;
  link: string | null;
  created_at: Instant;
  read_at: Instant | null;
}

/** An offer, and whose. */
export interface OfferedOption {
  id: Id;
  tutor_id: Id;
  title: string;
  description: string;
  minutes: number;
  sessions: number;
  price: Money;
  per_session: Money;
  validity_days: number | null;
  is_rolling: boolean;
  is_popular: boolean;
  position: number;
  is_hidden: boolean;
  created_at: Instant;
  updated_at: Instant;
  tutor_name: string;
}

/** Have the caller's money go to them by Stripe, and ask where they tell Stripe who they are. */
export interface OnboardPayouts {
  country: string;
}

/** Where to go; the address works once, for some minutes. */
export interface Onboarding {
  url: string;
  test: boolean;
}

/** Say that a hold was not settled as it should. */
export interface OpenDispute {
  hold_id: Id;
  reason: "incorrect_charge" | "not_as_described" | "other" | "session_quality" | "technical_issues" | "tutor_no_show" | "unauthorised_charge";
  text: string;
}

/** A tutor's offers in their own order; one page. */
export interface OptionList {
  items: readonly OptionView[];
  next_cursor: null;
}

/** A page of offers. */
export interface OptionPage {
  items: readonly OfferedOption[];
  next_cursor: string | null;
}

/** An offer. */
export interface OptionView {
  id: Id;
  tutor_id: Id;
  title: string;
  description: string;
  minutes: number;
  sessions: number;
  price: Money;
  per_session: Money;
  validity_days: number | null;
  is_rolling: boolean;
  is_popular: boolean;
  position: number;
  is_hidden: boolean;
  created_at: Instant;
  updated_at: Instant;
}

/** What became of a booking that is over. */
export type Outcome = "completed" | "not_held" | "no_show_student" | "no_show_tutor";

/** Somebody's place in the queue. */
export interface OwnWait {
  position: number;
  offered_until: Instant | null;
}

/** A student paid for lessons to come. */
export interface PackageBought {
  type: "package.bought";
  package_id: Id;
  student_id: Id;
  tutor_id: Id;
  title: string;
  price: Money;
  sessions: number;
}

/** The package will expire, and something of it is left. */
export interface PackageEnding {
  type: "package.ending";
  package_id: Id;
  student_id: Id;
  tutor_id: Id;
  title: string;
  expires_at: Instant;
  remaining: number;
}

/** What nobody took in time is settled. */
export interface PackageExpired {
  type: "package.expired";
  package_id: Id;
  student_id: Id;
  tutor_id: Id;
  title: string;
  amount: Money;
  lessons: number;
  is_released: boolean;
}

/** What becomes of the lessons of a package that nobody took (G-4). */
export type PackageExpiry = "release" | "refund";

/** A lesson that was paid from the package was not given, so it can be taken again. */
export interface PackageLessonReturned {
  type: "package.lesson_returned";
  package_id: Id;
  student_id: Id;
  tutor_id: Id;
  title: string;
  lesson_id: Id;
  remaining: number;
}

/** A page of packages. */
export interface PackagePage {
  items: readonly PackageSummary[];
  next_cursor: string | null;
}

/** What a purchase costs, and everything worth knowing before it. */
export interface PackageQuote {
  option_id: Id;
  terms: string;
  price: Money;
  balance: Money;
  shortfall: Money;
  sessions: number;
  minutes: number;
  validity_days: number | null;
  is_rolling: boolean;
  on_expiry: PackageExpiry;
  refund_days: number;
  refund_rule: string;
}

/** The rest was given back to the student. */
export interface PackageRefunded {
  type: "package.refunded";
  package_id: Id;
  student_id: Id;
  tutor_id: Id;
  title: string;
  amount: Money;
  lessons: number;
  reason: string;
}

/** Life of a package. Exhausted is derived: all its lessons are taken. */
export type PackageStatus = "active" | "exhausted" | "expired" | "refunded";

/** A package in a list. */
export interface PackageSummary {
  id: Id;
  option_id: Id;
  title: string;
  minutes: number;
  student_id: Id;
  student_name: string;
  tutor_id: Id;
  tutor_name: string;
  price: Money;
  purchased: number;
  used: number;
  remaining: number;
  status: PackageStatus;
  is_rolling: boolean;
  bought_at: Instant;
  expires_at: Instant | null;
  ends_soon: boolean;
  ended_at: Instant | null;
}

/** A package with each of its lessons. */
export interface PackageView {
  id: Id;
  option_id: Id;
  title: string;
  minutes: number;
  student_id: Id;
  student_name: string;
  tutor_id: Id;
  tutor_name: string;
  price: Money;
  purchased: number;
  used: number;
  remaining: number;
  status: PackageStatus;
  is_rolling: boolean;
  bought_at: Instant;
  expires_at: Instant | null;
  ends_soon: boolean;
  ended_at: Instant | null;
  tutor_bps: number;
  policy_version: number;
  on_expiry: PackageExpiry;
  refundable_until: Instant;
  slices: readonly Slice[];
}

/** A price in minor units; packages are sold in US dollars. */
export interface PackagesPrice {
  amount: number;
  currency?: "USD";
}

/** What goes back to the student. */
export interface Part {
  amount: number;
  currency?: "USD";
}

/** A seat as everybody in the room sees it. */
export interface Participant {
  user_id: string;
  name: string;
  role: "host" | "member" | "student" | "tutor";
  seat_no: number;
  seat_generation: number;
  state: SeatStatus;
  joined_at: Instant;
}

/** `participant.updated`. */
export interface ParticipantChanged {
  user_id: string;
  seat_no: number;
  seat_generation: number;
  state: SeatStatus;
}

/** `participant.evicted`; a `participant.left` follows when a seat was held. */
export interface ParticipantEvicted {
  user_id: string;
}

/** `participant.kicked`; a `participant.left` follows when a seat was held. */
export interface ParticipantKicked {
  user_id: string;
  by: string;
  banned: boolean;
}

/** `participant.left`. */
export interface ParticipantLeft {
  user_id: string;
  seat_no: number;
  seat_generation: number;
  reason: "closed" | "evicted" | "expired" | "kicked" | "left";
}

/** Everybody who ever came, in the order of their first coming. */
export interface ParticipantList {
  items: readonly TalkParticipant[];
  next_cursor: null;
}

/** Who cancelled. */
export type Party = "student" | "tutor" | "admin" | "system";

/** The new password holds; every session has ended. */
export interface PasswordIsSet {
}

/** A talk with the caller's own part in it. */
export interface PastTalk {
  id: Id;
  room_id: Id;
  code: string;
  share_link: string;
  title: string;
  description: string;
  language: string;
  level: string | null;
  topic: string | null;
  region: string | null;
  city: string | null;
  public: boolean;
  max_participants: number;
  seats: SeatCount;
  state: RoomStatus;
  host: Host;
  starts_at: Instant | null;
  created_at: Instant;
  closed_at: Instant | null;
  hosted: boolean;
  joined_at: Instant | null;
  left_at: Instant | null;
  minutes: number;
}

/** Bring the card of a booking to where its owner is asked; repeating it is harmless. */
export interface PayBooking {
  booking_id: Id;
}

/** The tutor agreed, and the money is there. */
export interface PaymentAuthorized {
  type: "payment.authorized";
  payment_id: Id;
  lesson_id: Id;
  student_id: Id;
  tutor_id: Id;
  amount: Money;
  reason: PaymentReason;
}

/** It was paid out by the split. */
export interface PaymentCaptured {
  type: "payment.captured";
  payment_id: Id;
  lesson_id: Id;
  student_id: Id;
  tutor_id: Id;
  amount: Money;
  reason: PaymentReason;
}

/** Where the money comes from. */
export type PaymentMethod = "wallet" | "card";

/** Why a payment went where it is. */
export type PaymentReason = "BOOKED" | "ACCEPTED" | "COMPLETED" | "NO_SHOW_STUDENT" | "NO_SHOW_TUTOR" | "NOT_HELD" | "DECLINED" | "WITHDRAWN" | "EXPIRED" | "STUDENT_CANCEL" | "STUDENT_CANCEL_LATE" | "TUTOR_CANCEL" | "CANCELLED" | "CARD_FAILED" | "LATE_EVIDENCE" | "GOODWILL" | "OTHER";

/** Some of what was captured went back to the student. */
export interface PaymentRefunded {
  type: "payment.refunded";
  payment_id: Id;
  lesson_id: Id;
  student_id: Id;
  tutor_id: Id;
  amount: Money;
  reason: PaymentReason;
  refunded: Money;
  to_card: boolean;
}

/** Where a payment is; the words are those that people of bookings know. `payment_states.ARROWS` says where to. */
export type PaymentState = "PENDING" | "AUTHORIZED" | "CAPTURED" | "VOIDED" | "PARTIALLY_REFUNDED" | "REFUNDED";

/** It was let go; whatever was held is back. */
export interface PaymentVoided {
  type: "payment.voided";
  payment_id: Id;
  lesson_id: Id;
  student_id: Id;
  tutor_id: Id;
  amount: Money;
  reason: PaymentReason;
}

/** Where a tutor's money goes; of a bank account no more than the last four characters. */
export interface PayoutAccountView {
  method: PayoutMethod;
  last4: string | null;
  created_at: Instant;
  usable_from: Instant;
}

/** How money reaches a tutor. */
export type PayoutMethod = "bank" | "stripe";

/** Browsers connect to each other, with `room.signal` between them. */
export interface PeerAccess {
  provider: "peer";
  ice_servers: readonly string[];
}

/** What one day or month brought, by the tutor's own calendar. */
export interface Period {
  gross: Money;
  fee: Money;
  net: Money;
  refunded: Money;
  lessons: number;
  begins: Day;
}

/** Somebody who is around. */
export interface PersonView {
  user_id: string;
  state: "away" | "busy" | "online";
}

/** Is anybody there, and what time is it? */
export interface Ping {
}

/** One version of the terms. Basis points are the tutor's share, but for the fees of tiers; money is in minor units. */
export interface Policy {
  version: number;
  course_platform_bps: number;
  course_referral_bps: number;
  booking_tiers: readonly Tier[];
  tiers_count_everything: boolean;
  attendance_percent: number;
  min_price: number;
  course_risk_days: number;
  booking_risk_days: number;
  free_cancel_hours: number;
  free_cancel_kindness_minutes: number;
  late_cancel_percent: number;
  dispute_days: number;
  goodwill_admin_most: number;
  goodwill_most: number;
  package_expiry: PackageExpiry;
  package_warning_days: number;
  package_refund_days: number;
  top_up_least: number;
  top_up_most: number;
  withdrawal_least: number;
  withdrawal_two_people_above: number;
  payout_freeze_hours: number;
}

/** A page of versions. */
export interface PolicyPage {
  items: readonly PolicyVersion[];
  next_cursor: number | null;
}

/** A period as it was, under the newest terms, and under the changed ones. */
export interface PolicyPreview {
  base_version: number;
  terms: Policy;
  under_newest: BackTestOutcome;
  report: Report;
}

/** One version, with who made it and why. */
export interface PolicyVersion {
  terms: Policy;
  effective_from: Instant;
  made_by: Id | null;
  made_by_name: string | null;
  reason: string;
  is_replaced: boolean;
}

/** The terms in force, for programs and for people. */
export interface PolicyView {
  terms: Policy;
  effective_from: Instant;
  next_change_at: Instant | null;
  rules: readonly Rule[];
}

/** The server's wall clock, in milliseconds of the Unix epoch. */
export interface Pong {
  server_time: number;
}

/** Where the snapshot stands in the room's channel: everything after it arrives as an event. */
export interface Position {
  epoch: string;
  off: number;
}

/** What `presence.diff` carries. */
export interface PresenceDiff {
  people: readonly PersonView[];
  gone: readonly string[];
  full?: boolean;
}

/** What it would mean for the money to end a running lesson now. */
export interface PreviewEnd {
  room_id: Id;
}

/** Ask what a period would have been under other terms; without times, the last thirty days. */
export interface PreviewPolicy {
  changes: Changes;
  since?: Instant | null;
  until?: Instant | null;
}

/** A price in minor units; courses are sold in US dollars. */
export interface Price {
  amount: number;
  currency?: "USD";
}

/** The leading way of buying; its price is mandatory (C-05). */
export type PriceType = "per_session" | "full_course";

/** What a tutor says of themselves, and how their application stands. */
export interface ProfileView {
  user_id: Id;
  status: TutorStatus;
  title: string;
  description: string;
  subjects: readonly string[];
  languages: readonly string[];
  hourly_rate: Money | null;
  experience_years: number | null;
  is_adult: boolean;
  missing: readonly ("description" | "hourly_rate" | "is_adult" | "languages" | "subjects" | "title")[];
  submitted_at: Instant | null;
  answer: string | null;
}

/** Where a tutor stands among the tiers of bookings and packages. */
export interface Progress {
  earned: Money;
  fee_bps: number;
  next_from: Money | null;
  missing: Money | null;
  next_fee_bps: number | null;
}

/** A newer token for the same user. */
export interface ProtocolRefresh {
  token: string;
}

/** Whether strangers see a course; apart from its life (C-20). */
export type Publication = "draft" | "published";

/** Show a course to everybody and sell it. */
export interface PublishCourse {
  course_id: Id;
}

/** The money of one session inside a purchase. */
export interface PurchaseHold {
  id: Id;
  number: number;
  session_id: Id | null;
  lesson_id: Id | null;
  amount: Money;
  status: HoldStatus;
  refunded: Money;
}

/** What was bought; both ways live side by side in one course (F4-38, F4-39). */
export type PurchaseKind = "full_course" | "session";

/** A page of purchases. */
export interface PurchasePage {
  items: readonly PurchaseView[];
  next_cursor: string | null;
}

/** Life of a purchase: a full course completes with its course, a single session by attendance (C-08). */
export type PurchaseStatus = "active" | "attended" | "missed" | "completed" | "cancelled";

/** A purchase and where its money is. */
export interface PurchaseView {
  id: Id;
  kind: PurchaseKind;
  status: PurchaseStatus;
  payment: "held" | "partly_settled" | "settled";
  course_id: Id;
  course_title: string;
  session_id: Id | null;
  student_id: Id;
  tutor: Tutor;
  price: Money;
  refunded: Money;
  split: Split;
  holds: readonly PurchaseHold[];
  created_at: Instant;
  ended_at: Instant | null;
  reason: string | null;
}

/** A place in the queue, counted from 1. */
export interface QueuePlace {
  position: number;
}

/** `queue.updated` on the waiting person's own channel. */
export interface QueueUpdated {
  room_id: string;
  position: number | null;
}

/** What a purchase costs, and everything that is worth knowing before the confirmation. */
export interface Quote {
  quote_token: string;
  expires_in_s: number;
  kind: PurchaseKind;
  price: Money;
  balance: Money;
  returned_first: Money;
  shortfall: Money;
  seats_left: number;
  refund_rule: string;
  split: Split;
  sessions: number;
}

/** Ask what a lesson with a tutor costs, and what pays for it. */
export interface QuoteBooking {
  tutor_id: Id;
  minutes?: 25 | 30 | 45 | 50 | 60 | 90 | 120;
}

/** Ask what an offer costs the caller now; nothing is charged. */
export interface QuotePackage {
  option_id: Id;
}

/** Ask what a full course, or one session of it, costs the caller now. */
export interface QuotePurchase {
  course_id: Id;
  session_id?: Id | null;
}

/** What an hour costs, in minor units: 5 to 500 dollars (B-05). */
export interface Rate {
  amount: number;
  currency?: "USD";
}

/** Mark all as read. */
export interface ReadAll {
}

/** Say how far the caller has read. */
export interface ReadChat {
  message_id: Id;
  ch?: string | null;
  room_id?: Id | null;
}

/** The next page of a channel after a position. */
export interface ReadHistory {
  ch: string;
  since: Since;
  limit?: number;
}

/** Ask what happened in a room, step by step. */
export interface ReadJournal {
  room_id: Id;
  cursor?: number;
  limit?: number;
}

/** Mark one as read; repeating it changes nothing. */
export interface ReadNotification {
  notification_id: Id;
}

/** What was bought, who was there, and what became of the money. */
export interface Receipt {
  version: number;
  hold_id: Id;
  lesson_id: Id | null;
  student_id: Id;
  tutor_id: Id;
  source_kind: SourceKind;
  source_id: Id;
  slice_no: number;
  amount: number;
  currency: string;
  tutor_bps: number;
  attribution: string;
  policy: Terms;
  placed_at: Instant;
  place_journal: string;
  window: Window | null;
  evidence: readonly Witness[];
  rulings: readonly Ruling[];
}

/** The public key of this server's receipts. */
export interface ReceiptKey {
  algorithm: "ed25519";
  key: string;
}

/** What a movement belongs to. */
export interface Reference {
  type: string;
  id: Id;
}

/** A page of people. */
export interface ReferralPage {
  items: readonly Referred[];
  next_cursor: string | null;
}

/** A tutor's code, and what it and those of their courses brought. */
export interface ReferralSummary {
  code: string | null;
  share_link: string | null;
  qr_svg: string | null;
  codes: readonly Code[];
  referred: number;
  buyers: number;
  brought: Brought;
}

/** Somebody who came by a tutor: a name, and what it brought. */
export interface Referred {
  name: string;
  registered_at: Instant;
  code: string | null;
  course_title: string | null;
  brought: Brought;
}

/** Exchange a refresh token, from the body or its cookie, for new tokens. */
export interface Refresh {
  refresh_token?: string | null;
  from_cookie?: boolean;
}

/** How long the newer token holds. */
export interface Refreshed {
  expires_in_s: number;
}

/** Give money of a hold back to its student, however late. */
export interface RefundHold {
  hold_id: Id;
  reason: string;
  money?: Gift | null;
}

/** Give back what is unused: the student within the days of the terms, an administrator always, with a reason. */
export interface RefundPackage {
  package_id: Id;
  reason?: string | null;
}

/** Make an account; students and tutors only (D-01). */
export interface Register {
  email: string;
  password: string;
  first_name: string;
  last_name: string;
  role: "student" | "tutor";
  timezone?: string;
  locale?: "en" | "vi";
  referral_code?: string | null;
}

/** Refuse a tutor, who is told why. */
export interface RejectTutor {
  user_id: Id;
  reason: string;
}

/** Say no to a withdrawal; the money goes back to the tutor's earnings. */
export interface RejectWithdrawal {
  withdrawal_id: Id;
  answer: string;
}

/** Pay a part of what is held for a session of a course out by its split; the rest goes back to the student. */
export interface ReleaseHold {
  hold_id: Id;
  percent: number;
  reason: string;
}

/** Ask to forget a saved card. */
export interface RemoveMethod {
  method_id: string;
}

/** A period as it was, and as it would have been. */
export interface Report {
  since: Instant;
  until: Instant;
  holds: number;
  changed: number;
  was: BackTestOutcome;
  would_be: BackTestOutcome;
  tutors: readonly TutorChange[];
}

/** Ask a tutor for a lesson; its money is put aside at once, so that the tutor's yes cannot fail for want of it. */
export interface RequestBooking {
  tutor_id: Id;
  starts_at: Instant;
  minutes?: 25 | 30 | 45 | 50 | 60 | 90 | 120 | null;
  price?: ExpectedPrice | null;
  pay_with?: "card" | "wallet";
  card?: string | null;
  package_id?: Id | null;
  topic?: string;
  notes?: string;
}

/** Ask for a mail with a link that sets a new password. */
export interface RequestReset {
  email: string;
}

/** Ask for earnings. */
export interface RequestWithdrawal {
  amount: EarningsAmount;
  note?: string | null;
}

/** It does, for so long. */
export interface ResetHolds {
  expires_in_s: number;
}

/** If the address has an account, a mail is on its way to it. */
export interface ResetRequested {
}

/** Decide a dispute. */
export interface ResolveDispute {
  dispute_id: Id;
  decision: "refunded" | "upheld";
  notes: string;
  money?: Part | null;
}

/** Have work tried anew that was given up. */
export interface RetryJob {
  job_id: Id;
  reason: string;
}

/** Try to pay out by Stripe again what failed. */
export interface RetryWithdrawal {
  withdrawal_id: Id;
}

/** Ask for the bank data of a withdrawal in clear, to make the bank transfer; who asks is written down. */
export interface RevealBankAccount {
  withdrawal_id: Id;
  reason: string;
}

/** Where a course's money is: in all, by session, and by who brought the student; each adds up to the whole. */
export interface Revenue {
  sold: Money;
  earned: Money;
  platform: Money;
  held: Money;
  expected: Money;
  refunded: Money;
  sessions: readonly SessionRevenue[];
  sources: readonly SourceRevenue[];
}

/** Ask what a period brought, by the caller's own calendar. */
export interface RevenueGetRevenue {
  by?: "day" | "month";
  since?: Day | null;
  until?: Day | null;
}

/** What one day or month brought. */
export interface RevenuePeriod {
  to_tutors: Money;
  to_platform: Money;
  to_students: Money;
  begins: Day;
  costs: Money;
  net: Money;
}

/** The same of one product. */
export interface RevenueSourceRevenue {
  to_tutors: Money;
  to_platform: Money;
  to_students: Money;
  source_kind: SourceKind;
}

/** Where the money of settled lessons went, less what later came back. */
export interface RevenueSplit {
  to_tutors: Money;
  to_platform: Money;
  to_students: Money;
}

/** What a period brought. */
export interface RevenueView {
  total: RevenueSplit;
  costs_in_all: Money;
  net: Money;
  sources: readonly RevenueSourceRevenue[];
  costs: readonly Cost[];
  periods: readonly RevenuePeriod[];
  by: "day" | "month";
  since: Day;
  until: Day;
  timezone: string;
}

/** Undo a whole journal of the ledger. */
export interface ReverseJournal {
  journal_id: string;
  reason: string;
}

/** A journal that was undone, and the one that undoes it. */
export interface ReversedView {
  id: string;
  reverses: string;
  kind: JournalKind;
  reference: Reference;
  reason: string;
}

/** A page of reviews. */
export interface ReviewPage {
  items: readonly ReviewView[];
  next_cursor: string | null;
}

/** One review, as administrators see it. */
export interface ReviewView {
  id: Id;
  hold_id: Id;
  lesson_id: Id;
  student_id: Id;
  tutor_id: Id;
  amount: Money;
  settled: Money | null;
  by_evidence: Money;
  opened_at: Instant;
  closed_at: Instant | null;
  notes: string | null;
}

/** Work that is tried anew. */
export interface Revived {
  kind: string;
  key: string;
  error: string | null;
}

/** A user's one role; for administration owner includes admin (ED-103, B-01). */
export type Role = "student" | "tutor" | "admin" | "owner";

/** `room.updated`: only what changed. */
export interface RoomChanged {
  title?: string;
  state?: RoomStatus;
  host?: string | null;
  generation?: number;
  media_ready?: boolean;
  starts_at?: Instant;
  ends_at?: Instant;
}

/** `room.closing` and `room.closed`. */
export interface RoomEnding {
  reason: string;
}

/** What a room is for; course sessions and bookings are lessons. */
export type RoomKind = "talk" | "course_session" | "booking";

/** What everybody in the room gets of it, as `room.message`. */
export interface RoomMessage {
  from: string;
  kind: string;
  data: unknown;
}

/** `room.opened`. */
export interface RoomOpenedShown {
  id: Id;
  kind: RoomKind;
  title: string;
  cap: number;
}

/** A page of rooms. */
export interface RoomPage {
  items: readonly RoomView[];
  next_cursor: string | null;
  now: Instant;
}

/** Life of a room: a lesson is live from its start on, a talk from its first join. */
export type RoomStatus = "open" | "live" | "closing" | "closed";

/** A room as operators see it. */
export interface RoomView {
  id: Id;
  kind: RoomKind;
  title: string;
  state: RoomStatus;
  cap: number;
  owner_id: Id;
  owner: string;
  seats: readonly SeatHeld[];
  waiting: readonly string[];
  generation: number;
  proof: "livekit" | "socket";
  evidence: EvidenceCount;
  timers: readonly TimerView[];
  events: number;
  node: Id | null;
  created_at: Instant;
  starts_at: Instant | null;
  ends_at: Instant | null;
  started_at: Instant | null;
  ended_at: Instant | null;
  reason: string | null;
  settled: boolean | null;
}

/** One of the terms in words; its value is the field of the same name. */
export interface Rule {
  name: string;
  unit: "basis_points" | "choice" | "days" | "hours" | "minor_units" | "minutes" | "percent" | "tiers" | "truth";
  en: string;
  vi: string;
}

/** Where the money went, in minor units of the receipt's currency. */
export interface Ruling {
  number: number;
  cause: Cause;
  reason: string | null;
  to_tutor: number;
  to_platform: number;
  to_student: number;
  journal_id: string;
  settled_at: Instant;
  measured: Measured | null;
}

/** The message as everybody sees it. */
export interface Said {
  message: ChatMessage;
}

/** How many seats there are, and how many are taken or kept for somebody. */
export interface SeatCount {
  total: number;
  taken: number;
}

/** Who has a seat, and how it stands. */
export interface SeatHeld {
  user_id: string;
  name: string;
  role: "host" | "member" | "student" | "tutor";
  no: number;
  state: SeatStatus;
  joined_at: Instant;
}

/** `seat.offered` on the waiting person's own channel: accept by repeating `room.join`. */
export interface SeatOfferShown {
  room_id: string;
  expires_in_s: number;
}

/** A seat is a lease; all three count against the cap. */
export type SeatStatus = "joining" | "connected" | "grace";

/** The caller's own seat. */
export interface SeatView {
  no: number;
  state: SeatStatus;
  generation: number;
}

/** The caller has a seat. */
export interface Seated {
  room: Snapshot;
  seat: SeatView;
  media: LiveKitAccess | PeerAccess;
  sub: Position;
}

/** Say something in a room or conversation. */
export interface SendChat {
  text: string;
  ch?: string | null;
  room_id?: Id | null;
}

/** A volatile message for everybody in the room. */
export interface SendToRoom {
  room_id: Id;
  kind: string;
  data?: unknown;
}

/** The sessions of a course by number; at most a hundred, so one page. */
export interface SessionList {
  items: readonly SessionView[];
  next_cursor: null;
}

/** Where the money of one session is, whichever way it was sold. */
export interface SessionRevenue {
  sold: Money;
  earned: Money;
  platform: Money;
  held: Money;
  expected: Money;
  refunded: Money;
  number: number;
  session_id: Id | null;
  title: string | null;
}

/** `session.started` and `session.ended`. */
export interface SessionShown {
  at: Instant;
  reason?: string | null;
}

/** Life of a course session (F4-64 to F4-66). */
export type SessionStatus = "scheduled" | "in_progress" | "completed" | "cancelled";

/** One session as everybody sees it; the room's door asks for the right to enter. */
export interface SessionView {
  id: Id;
  course_id: Id;
  number: number;
  title: string;
  starts_at: Instant;
  ends_at: Instant;
  duration_minutes: number;
  status: SessionStatus;
  room_id: Id;
  seats_left: number;
  started_at: Instant | null;
  ended_at: Instant | null;
  reason: string | null;
}

/** Have the caller's money go to a bank account. */
export interface SetBankAccount {
  bank_name: string;
  account_number: string;
  account_holder: string;
  branch?: string | null;
  swift?: string | null;
}

/** Make new terms. They bind what is bought from their moment on, and nothing before. */
export interface SetPolicy {
  base_version: number;
  changes: Changes;
  reason: string;
  effective_from?: Instant | null;
  replace_planned?: boolean;
}

/** Whether somebody is around, for those who follow the presence channel; who disconnects is offline by itself. */
export interface SetPresence {
  ch: string;
  state: "away" | "busy" | "online" | "offline";
}

/** What one product and share of the split brought. */
export interface Share {
  gross: Money;
  fee: Money;
  net: Money;
  refunded: Money;
  lessons: number;
  source_kind: SourceKind;
  attribution: string;
  tutor_bps: number;
}

/** How the caller's camera and connection are; shown to the others, never counted as time. */
export interface ShowMediaState {
  room_id: Id;
  state: unknown;
}

/** One message of the browsers' own agreement on a connection; opaque to the server. */
export interface Signal {
  room_id: Id;
  to: Id;
  data: unknown;
}

/** `room.signal` on the other's own channel. */
export interface SignalShown {
  room_id: Id;
  from: Id;
  data: unknown;
}

/** A receipt, with whose word it is. */
export interface Signed {
  receipt: Receipt;
  key: string;
  signature: string;
}

/** The last position of a channel that the client knows. */
export interface Since {
  epoch: string;
  off: number;
}

/** One lesson of a package, and its money. */
export interface Slice {
  hold_id: Id;
  number: number;
  lesson_id: Id | null;
  amount: Money;
  status: HoldStatus;
  refunded: Money;
}

/** A room as its page shows it; participants in order of joining. */
export interface Snapshot {
  id: Id;
  kind: RoomKind;
  title: string;
  state: RoomStatus;
  cap: number;
  generation: number;
  participants: readonly Participant[];
  host: string | null;
  evidence: "livekit" | "socket";
  media_ready: boolean;
  epoch: string;
  off: number;
  starts_at: Instant | null;
  ends_at: Instant | null;
  reason: string | null;
  ended_at: Instant | null;
  queue_length: number;
  own_wait: OwnWait | null;
  ahead_s: number;
}

/** What was bought. */
export type SourceKind = "course_session" | "course_slice" | "booking" | "package_slice";

/** Where the money of the students is who came one way. */
export interface SourceRevenue {
  sold: Money;
  earned: Money;
  platform: Money;
  held: Money;
  expected: Money;
  refunded: Money;
  attribution: "platform" | "referral";
}

/** Make earnings the caller's own credit. They never become earnings again. */
export interface SpendEarnings {
  amount: Amount;
}

/** Earnings that became credit. */
export interface Spent {
  id: string;
  amount: Money;
  standing: Standing;
}

/** How a release is divided, frozen with the purchase. */
export interface Split {
  tutor_bps: number;
  platform_bps: number;
  attribution: "platform" | "referral";
  policy_version: number;
}

/** Where a tutor's money is now. */
export interface Standing {
  held: Money;
  pending: Money;
  disputed: Money;
  available: Money;
  owed: Money;
  reserved: Money;
  withdrawn: Money;
}

/** Ask to pay money into the caller's wallet. */
export interface StartTopUp {
  amount: TopUpsAmount;
  way?: TopUpWay;
  method_id?: string | null;
}

/** One movement of a statement. */
export interface StatementLine {
  id: string;
  kind: JournalKind;
  title: string;
  amount: Money;
  balance_before: Money;
  balance_after: Money;
  reason: string;
  reference: Reference;
  at: Instant;
}

/** A statement; the oldest movement first. */
export interface StatementView {
  account: AccountKind;
  since: Day;
  until: Day;
  timezone: string;
  opening: Money;
  closing: Money;
  items: readonly StatementLine[];
}

/** What an account at Stripe may do, as Stripe says at this moment. */
export interface StripeAccountView {
  may_receive: boolean;
  may_pay_out: boolean;
  wanted: readonly string[];
  test: boolean;
}

/** What would become of one student's money. */
export interface StudentIfEnded {
  user_id: Id;
  name: string;
  price: Money;
  released: boolean;
}

/** Ask to be approved, for the first time or again after a refusal. */
export interface SubmitProfile {
}

/** Follow a channel, from a known position on or from now. */
export interface Subscribe {
  ch: string;
  since?: Since | null;
}

/** Where a subscription starts: everything after `off` arrives as an event, nothing before it does. */
export interface SubscriptionView {
  epoch: string;
  off: number;
  recovered: boolean;
  events: readonly unknown[];
  more: boolean;
}

/** An open talk left the list: it is full, closed, or private now. */
export interface TalkGone {
  id: Id;
}

/** A page of talks. */
export interface TalkPage {
  items: readonly ListedTalk[];
  next_cursor: string | null;
  region: string | null;
}

/** Somebody who is or was in a talk. */
export interface TalkParticipant {
  user_id: Id;
  name: string;
  host: boolean;
  joined_at: Instant;
  left_at: Instant | null;
  minutes: number;
}

/** A talk by itself. */
export interface TalkView {
  id: Id;
  room_id: Id;
  code: string;
  share_link: string;
  title: string;
  description: string;
  language: string;
  level: string | null;
  topic: string | null;
  region: string | null;
  city: string | null;
  public: boolean;
  max_participants: number;
  seats: SeatCount;
  state: RoomStatus;
  host: Host;
  starts_at: Instant | null;
  created_at: Instant;
  closed_at: Instant | null;
  qr_svg: string;
}

/** A page of own talks. */
export interface TalksHistoryPage {
  items: readonly PastTalk[];
  next_cursor: string | null;
}

/** The version of the terms under which the hold was placed. */
export interface Terms {
  version: number;
  course_platform_bps: number;
  course_referral_bps: number;
  attendance_percent: number;
  min_price: number;
  course_risk_days: number;
  booking_risk_days: number;
  top_up_least: number;
  top_up_most: number;
  withdrawal_least: number;
  withdrawal_two_people_above: number;
  payout_freeze_hours: number;
}

/** Opens one socket, once. */
export interface Ticket {
  ticket: string;
  expires_in_s: number;
}

/** From so much lifetime net earnings on, the platform keeps so much of a booking or package. */
export interface Tier {
  from_earned: number;
  fee_bps: number;
}

/** What a room has to do later. */
export interface TimerView {
  name: string;
  due_at: Instant;
  clock: "business" | "wall";
}

/** What a login gives. */
export interface Tokens {
  user: Account;
  access_token: string;
  expires_in_s: number;
  refresh_token: string;
}

/** A page of top-ups, and how much the next one may bring. */
export interface TopUpPage {
  items: readonly TopUpView[];
  next_cursor: Id | null;
  least: Money;
  most: Money;
  test: boolean;
}

/** Life of a top-up: created → pending → succeeded, failed or expired; each also at once. */
export type TopUpStatus = "created" | "pending" | "succeeded" | "failed" | "expired";

/** What the payer's other windows see. */
export interface TopUpUpdated {
  top_up_id: string;
  status: TopUpStatus;
}

/** One top-up. */
export interface TopUpView {
  id: Id;
  amount: Money;
  way: TopUpWay;
  status: TopUpStatus;
  reason: string | null;
  url: string | null;
  client_secret: string | null;
  created_at: Instant;
  expires_at: Instant;
  test: boolean;
}

/** How somebody pays. */
export type TopUpWay = "hosted" | "elements" | "saved";

/** What somebody wants to pay in; the terms say how little and how much that may be. */
export interface TopUpsAmount {
  amount: number;
  currency?: "USD";
}

/** Who teaches. */
export interface Tutor {
  id: Id;
  name: string;
}

/** What the other terms would have been for one tutor. */
export interface TutorChange {
  tutor_id: Id;
  holds: number;
  was: Money;
  would_be: Money;
  change: Money;
}

/** A page of tutors. */
export interface TutorPage {
  items: readonly TutorView[];
  next_cursor: string | null;
}

/** Where a tutor stands; only approved tutors are found, and teach (B-05). */
export type TutorStatus = "incomplete" | "pending" | "approved" | "rejected";

/** A tutor as everybody sees them: nothing of how to reach them. */
export interface TutorView {
  id: Id;
  name: string;
  title: string;
  description: string;
  subjects: readonly string[];
  languages: readonly string[];
  hourly_rate: Money | null;
  experience_years: number | null;
  timezone: string;
}

/** Somebody starts or stops typing. */
export interface Typing {
  room_id: Id;
}

/** What everybody in the room gets of it, as `typing`. */
export interface TypingShown {
  user_id: string;
  typing: boolean;
}

/** Let a user in again. */
export interface Unblock {
  user_id: Id;
  reason: string;
}

/** Take a course off the list; what is sold stays sold. */
export interface UnpublishCourse {
  course_id: Id;
}

/** How many are not read yet. */
export interface Unread {
  unread: number;
}

/** Stop following a channel. */
export interface Unsubscribe {
  ch: string;
}

/** Change a course; what is absent stays. Terms of sale change only while nothing is sold. */
export interface UpdateCourse {
  course_id: Id;
  title?: string;
  description?: string;
  language?: string;
  level?: "A1" | "A2" | "B1" | "B2" | "C1" | "C2";
  category?: string;
  duration_hours?: number;
  total_sessions?: number;
  price_type?: PriceType;
  price_per_session?: Price | null;
  price_full_course?: Price | null;
  max_students?: number;
}

/** Change the own account; what is absent stays. A new password needs the current one. */
export interface UpdateMe {
  first_name?: string;
  last_name?: string;
  timezone?: string;
  locale?: "en" | "vi";
  region?: string | null;
  password?: string;
  current_password?: string;
}

/** Change an offer; what is absent stays, and what is sold stays as it was sold. */
export interface UpdateOption {
  option_id: Id;
  title?: string;
  description?: string;
  minutes?: number;
  sessions?: number;
  price?: PackagesPrice;
  validity_days?: number | null;
  is_rolling?: boolean;
  is_popular?: boolean;
  position?: number;
}

/** Change the own profile; what is absent stays. It need not be whole before it is submitted. */
export interface UpdateProfile {
  title?: string;
  description?: string;
  subjects?: readonly string[];
  languages?: readonly string[];
  hourly_rate?: Rate | null;
  experience_years?: number | null;
  is_adult?: boolean;
}

/** Rename or move a session that has not begun; what is absent stays. */
export interface UpdateSession {
  course_id: Id;
  session_id: Id;
  title?: string;
  starts_at?: Instant;
  duration_minutes?: number;
}

/** Change an open talk; what is absent stays. */
export interface UpdateTalk {
  talk_id: Id;
  title?: string;
  description?: string;
  language?: string;
  level?: "A1" | "A2" | "B1" | "B2" | "C1" | "C2" | null;
  topic?: string | null;
  public?: boolean;
}

/** The own account after a change. A new password ends every session and opens this one. */
export interface UpdatedAccount {
  id: Id;
  email: string;
  first_name: string;
  last_name: string;
  role: Role;
  timezone: string;
  locale: string;
  created_at: Instant;
  region?: string | null;
  tutor_status?: TutorStatus | null;
  referral_code?: string | null;
  access_token?: string | null;
  expires_in_s?: number | null;
  refresh_token?: string | null;
}

/** A package of the caller that pays for a lesson with this tutor. */
export interface UsablePackage {
  id: Id;
  title: string;
  minutes: number;
  remaining: number;
  expires_at: Instant | null;
}

/** Whose connection it is. */
export interface UserView {
  id: string;
  role: string;
}

/** A page of accounts. */
export interface Users {
  items: readonly ManagedAccount[];
  next_cursor: string | null;
}

/** Ask whether a link still holds; it is not used up by that. */
export interface VerifyReset {
  token: string;
}

/** The room is full; the seat comes as `seat.offered` on the caller's own channel. */
export interface Waiting {
  queue: QueuePlace;
  sub: Position;
}

/** What an administrator gives, or takes where it is negative. */
export interface WalletAmount {
  amount: number;
  currency: "USD";
}

/** What is given. */
export interface WalletGift {
  amount: number;
  currency: "USD";
}

/** What somebody has. */
export interface WalletView {
  balance: Money;
  held: Money;
  earnings: Earnings;
}

/** A page of deliveries. */
export interface WebhookPage {
  items: readonly WebhookView[];
  next_cursor: string | null;
}

/** One delivery. Its body stays here: it may name people. */
export interface WebhookView {
  id: string;
  type: string;
  about: string | null;
  created_at: Instant;
  received_at: Instant;
  handled_at: Instant | null;
}

/** The lesson as it was planned, and when it ended. */
export interface Window {
  starts_at: Instant;
  ends_at: Instant;
  ended_at: Instant;
  evidence: "livekit" | "socket";
}

/** A page of withdrawals. */
export interface WithdrawalPage {
  items: readonly WithdrawalView[];
  next_cursor: string | null;
}

/** Life of a withdrawal: pending → processing → completed; the first two also → rejected. */
export type WithdrawalStatus = "pending" | "processing" | "completed" | "rejected";

/** What the tutor's windows see. */
export interface WithdrawalUpdated {
  withdrawal_id: string;
  status: WithdrawalStatus;
}

/** A withdrawal, and whether it is one. */
export interface WithdrawalView {
  id: Id;
  tutor_id: Id;
  amount: Money;
  status: WithdrawalStatus;
  method: PayoutMethod;
  account_last4: string | null;
  note: string | null;
  is_held: boolean;
  held_reason: string | null;
  approvals: number;
  approvals_needed: number;
  answer: string | null;
  reference: string | null;
  requested_at: Instant;
  ended_at: Instant | null;
  test: boolean;
}

/** One piece of raw evidence. */
export interface Witness {
  kind: "aborted" | "absent" | "finished" | "joined" | "left" | "outage" | "seen" | "started" | "stay" | "track";
  at: Instant;
  identity: string | null;
  session: string;
  until: Instant | null;
  generation: number;
  source: "media" | "ours" | "poll" | "socket" | "webhook";
  reason: string | null;
  room_sid: string | null;
  joined_at: Instant | null;
  received_at: Instant | null;
  ref: string | null;
  known_at: Instant;
}
