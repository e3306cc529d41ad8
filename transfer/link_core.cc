#include "transfer/link_core.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "serialization/stream_fence.h"
#include "transfer/pooled_memory.h"

namespace tensorferry {
namespace {

Lanes::Options LanesOptions(LinkCore::Options& options, LinkCore* owner) {
  Lanes::Options lanes;
  lanes.loop = options.loop;
  lanes.hub = options.hub;
  lanes.copier = options.copier;
  lanes.pool = options.pool;
  lanes.backends = options.backends;
  lanes.rules = options.rules;
  lanes.key = options.key;
  lanes.greet_within = options.greet_within;
  lanes.owner = owner;
  lanes.leases = owner->leases;
  return lanes;
}

// Fills in what the members that are made next read.
LinkHost* Furnish(LinkHost* host, const LinkCore::Options& options,
                  Lanes* lanes) {
  host->lanes = lanes;
  host->clock = options.loop->clock();
  host->rules = options.rules;
  host->converters = options.converters;
  host->digest_helpers = options.digest_helpers;
  host->buffers = options.buffers;
  host->pool = options.pool;
  if (options.pool != nullptr) {
    host->quick_bytes = PooledMemory::kSmallestBlock - 1;
  } else {
    host->quick_bytes = options.buffers == nullptr ? UINT64_MAX : 0;
  }
  return host;
}

// What operations are told of an end that was wished for.
absl::Status ReasonOf(absl::Status why) {
  return why.ok() ? absl::CancelledError("the link was closed") : why;
}

}  // namespace

LinkCore::LinkCore(Options options)
    : loop_(options.loop),
      executor_(options.executor),
      lanes_(LanesOptions(options, this)),
      outgoing_(Furnish(this, options, &lanes_)),
      incoming_(this),
      on_up_(std::move(options.on_up)),
      on_down_(std::move(options.on_down)),
      on_gone_(std::move(options.on_gone)) {}

// ---- opening

absl::StatusOr<std::vector<std::string>> LinkCore::Expect(
    absl::Time unused_until) {
  return lanes_.Expect(unused_until);
}

void LinkCore::Accept(absl::Duration timeout) {
  Start(timeout, [this] { lanes_.Accept(); });
}

void LinkCore::Dial(std::vector<std::string> addresses,
                    absl::Duration timeout) {
  Start(timeout, [this, addresses = std::move(addresses)]() mutable {
    lanes_.Dial(std::move(addresses));
  });
}

void LinkCore::Start(absl::Duration timeout, Task open) {
  PostUnlessGone([this, timeout, open = std::move(open)]() mutable {
    if (phase_ != Phase::kOpening) return;
    open_by_ = clock->Now() + timeout;
    std::move(open)();
    AfterEvent();
  });
}

bool LinkCore::PostUnlessGone(Task task) {
  absl::MutexLock lock(&mu_);
  if (gone_) return false;
  loop_->Post([self = shared_from_this(), task = std::move(task)]() mutable {
    std::move(task)();
  });
  return true;
}

// Who drains still answers the calls that were begun.
absl::Status LinkCore::MaySend(Envelope::Kind kind) const {
  if (!end_.ok()) return Closed();
  if (!draining_ || kind == Envelope::Kind::kReply) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the link to ", Whom(), " is being drained"));
}

bool LinkCore::ended() const {
  absl::MutexLock lock(&mu_);
  return !end_.ok();
}

absl::Status LinkCore::Closed() const {
  return absl::FailedPreconditionError(absl::StrCat(
      "the link to ", Whom(), " is closed; it ended with: ", end_.ToString()));
}

// ---- the user's side

Operation LinkCore::Send(TensorMessage message, Envelope envelope,
                         SendOptions options, Done<Receipt> done) {
  auto sending = std::make_unique<Sending>();
  sending->start = clock->Now();
  sending->deadline = sending->start + options.timeout;
  absl::Status status;
  {
    absl::MutexLock lock(&mu_);
    status = MaySend(envelope.kind);
  }
  if (status.ok()) {
    status = OutgoingMessages::Prepare(*this, std::move(message), envelope,
                                       options, *sending);
  }
  if (status.ok()) {
    // Ids and the loop's queue agree on the order.
    absl::MutexLock lock(&mu_);
    status = MaySend(envelope.kind);  // that may have taken long
    if (status.ok()) {
      const OperationId id = ++last_send_;
      sending->done = std::move(done);
      loop_->Post([self = shared_from_this(), id,
                   sending = std::move(sending)]() mutable {
        self->outgoing_.Submit(id, std::move(sending));
      });
      return Operation([weak = weak_from_this(), id] {
        auto self = weak.lock();
        if (self == nullptr) return;
        self->PostUnlessGone(
            [core = self.get(), id] { core->outgoing_.Cancel(id); });
      });
    }
  }
  sending.reset();  // the tensors are the user's again
  std::move(done)(std::move(status));
  return Operation();
}

Operation LinkCore::Receive(ReceiveOptions options, Done<Received> done) {
  auto receiving = std::make_unique<Receiving>();
  receiving->start = clock->Now();
  receiving->deadline = receiving->start + options.timeout;
  receiving->options = std::move(options);
  absl::Status status = IncomingMessages::Prepare(*this, *receiving);
  if (status.ok()) {
    absl::MutexLock lock(&mu_);
    if (end_.ok()) {
      const ReceiveId id = ++last_receive_;
      receiving->done = std::move(done);
      loop_->Post([self = shared_from_this(), id,
                   receiving = std::move(receiving)]() mutable {
        self->incoming_.Receive(id, std::move(receiving));
      });
      return Operation([weak = weak_from_this(), id] {
        auto self = weak.lock();
        if (self == nullptr) return;
        self->PostUnlessGone(
            [core = self.get(), id] { core->incoming_.Cancel(id); });
      });
    }
    status = Closed();
  }
  receiving.reset();  // the tensors are the user's again
  std::move(done)(std::move(status));
  return Operation();
}

void LinkCore::Drain(DoneStatus drained) {
  {
    absl::MutexLock lock(&mu_);
    draining_ = true;
  }
  auto shared = std::make_shared<DoneStatus>(std::move(drained));
  bool posted = PostUnlessGone([this, shared] {
    drained_.push_back(std::move(*shared));
    AfterEvent();
  });
  if (posted) return;
  absl::Status end;
  {
    absl::MutexLock lock(&mu_);
    end = end_;
  }
  std::move (*shared)(std::move(end));
}

void LinkCore::AnnounceEnd(absl::Status why) {
  PostUnlessGone([this, why = ReasonOf(std::move(why))] {
    if (!announced_) announced_ = why;
  });
}

void LinkCore::Trim() {
  if (pool == nullptr || pool->held() == 0) return;
  executor_->Run([pool = pool] { pool->Trim(); });
}

void LinkCore::Close(absl::Status why, DoneStatus closed) {
  why = ReasonOf(std::move(why));
  {
    absl::MutexLock lock(&mu_);
    if (end_.ok()) end_ = why;
  }
  auto shared = std::make_shared<DoneStatus>(std::move(closed));
  bool posted = PostUnlessGone([this, shared, why] {
    if (*shared) closed_.push_back(std::move(*shared));
    End(why, /*by_user=*/true);
  });
  if (!posted && *shared) std::move (*shared)(absl::OkStatus());
}

LinkCounters LinkCore::counters() const {
  return {outgoing_.bytes_sent(), incoming_.bytes_received(),
          outgoing_.messages_sent(), incoming_.messages_received()};
}

// ---- LinkHost

void LinkCore::Work(Weight weight, absl::AnyInvocable<Afterwards() &&> work) {
  ++work_pending_;
  if (weight == Weight::kLight) {
    return Later([this, work = std::move(work)]() mutable {
      Afterwards afterwards = std::move(work)();
      --work_pending_;
      std::move(afterwards.on_loop)();
      if (!afterwards.for_user) return;
      Tell(std::move(afterwards.for_user), afterwards.quick);
    });
  }
  executor_->Run([self = shared_from_this(), work = std::move(work)]() mutable {
    Afterwards afterwards = std::move(work)();
    Loop* loop = self->loop_;
    loop->Post([self = std::move(self),
                on_loop = std::move(afterwards.on_loop)]() mutable {
      --self->work_pending_;
      std::move(on_loop)();
    });
    if (afterwards.for_user) std::move(afterwards.for_user)();
  });
}

void LinkCore::WhenReached(const std::vector<Region>& regions,
                           DoneStatus reached) {
  const std::vector<Region> streams = OnePerStream(regions);
  if (streams.empty()) return std::move(reached)(absl::OkStatus());
  ++work_pending_;
  tensorferry::WhenReached(
      streams, [self = shared_from_this(),
                reached = std::move(reached)](absl::Status status) mutable {
        Loop* loop = self->loop_;
        loop->Post([self = std::move(self), reached = std::move(reached),
                    status = std::move(status)]() mutable {
          --self->work_pending_;
          std::move(reached)(std::move(status));
          self->AfterEvent();
        });
      });
}

void LinkCore::Tell(Task task, bool quick) {
  if (quick) return executor_->RunHere(std::move(task));
  executor_->Run(std::move(task));
}

void LinkCore::Later(Task task) {
  loop_->Post([self = shared_from_this(), task = std::move(task)]() mutable {
    std::move(task)();
  });
}

std::function<void(Task)> LinkCore::PostWhileThere() {
  return [weak = weak_from_this()](Task task) {
    if (auto self = weak.lock()) self->PostUnlessGone(std::move(task));
  };
}

void LinkCore::EndSoon(absl::Status why) {
  if (phase_ == Phase::kEnding || phase_ == Phase::kGone) return;
  doomed_ = true;
  Later([this, why = std::move(why)] { End(why, /*by_user=*/false); });
}

void LinkCore::AfterEvent() {
  MaybeDrained();
  ArmTimer();
  MaybeGone();
}

// ---- Lanes::Owner

void LinkCore::OnUp() {
  if (phase_ != Phase::kOpening) return;
  phase_ = Phase::kUp;
  open_by_ = absl::InfiniteFuture();
  TellUp(absl::OkStatus());
  outgoing_.OnUp();
}

struct LinkCore::FrameRouter {
  LinkCore& core;
  std::string& inline_bytes;

  void operator()(HeaderFrame& frame) {
    core.incoming_.OnHeader(std::move(frame), std::move(inline_bytes));
  }
  void operator()(TrailerFrame& frame) {
    core.incoming_.OnTrailer(std::move(frame));
  }
  void operator()(CancelFrame& frame) { core.incoming_.OnCancel(frame); }
  void operator()(GrantFrame& frame) { core.outgoing_.OnGrant(frame); }
  void operator()(RefuseFrame& frame) { core.outgoing_.OnRefuse(frame); }
  void operator()(AckFrame& frame) { core.outgoing_.OnAck(frame); }
  void operator()(ReturnedFrame& frame) { core.outgoing_.OnReturned(frame); }
  // Those of the lanes do not come here.
  void operator()(HelloFrame&) {}
  void operator()(ReopenFrame&) {}
  void operator()(RejectFrame&) {}
};

void LinkCore::OnFrame(Frame frame, std::string inline_bytes) {
  if (doomed_ || phase_ == Phase::kEnding || phase_ == Phase::kGone) return;
  std::visit(FrameRouter{*this, inline_bytes}, frame);
}

void LinkCore::OnBody(int lane, uint32_t generation, BodyTag tag) {
  incoming_.OnBody(lane, generation, tag);
}

std::optional<BufferPool::Place> LinkCore::PlaceOfLent(const void* data,
                                                       uint64_t nbytes) {
  return outgoing_.PlaceOfLent(data, nbytes);
}

std::shared_ptr<CopyReader> LinkCore::ReaderOf(CopyWay way, const void* data,
                                               uint64_t nbytes) {
  return way == CopyWay::kToPool ? outgoing_.ReaderOf(data, nbytes)
                                 : incoming_.ReaderOf(data, nbytes);
}

void LinkCore::OnLaneUp(int lane, uint32_t generation) {
  outgoing_.OnLaneUp(lane, generation);
}

void LinkCore::OnLaneEnded(int lane) {
  outgoing_.OnLaneEnded(lane);
  incoming_.OnLaneEnded(lane);
}

// Sockets are heard before tasks that are in line already, and an AnnounceEnd
// among those has to be in time.
void LinkCore::OnFailed(absl::Status why) { EndSoon(std::move(why)); }

void LinkCore::OnClosed() {
  lanes_closed_ = true;
  MaybeGone();
}

// ---- the end

void LinkCore::End(absl::Status why, bool by_user) {
  if (phase_ == Phase::kEnding || phase_ == Phase::kGone) return;
  if (!by_user && announced_ && absl::IsUnavailable(why)) why = *announced_;
  bool was_up = phase_ == Phase::kUp;
  phase_ = Phase::kEnding;
  doomed_ = false;
  {
    absl::MutexLock lock(&mu_);
    if (end_.ok()) end_ = why;
  }
  why_ = About(absl::StrCat("link to ", Whom()), why);
  open_by_ = absl::InfiniteFuture();
  if (!was_up) {
    TellUp(why_);
  } else if (!by_user && on_down_) {
    Tell([on_down = std::move(on_down_), why = why_]() mutable {
      std::move(on_down)(std::move(why));
    });
  }
  lanes_.Close(why_);
  outgoing_.End(why_);
  incoming_.End(why_);
  AfterEvent();
}

void LinkCore::TellUp(absl::Status status) {
  if (!on_up_) return;
  Tell([on_up = std::move(on_up_), status = std::move(status)]() mutable {
    std::move(on_up)(std::move(status));
  });
  on_up_ = nullptr;
}

// One timer for the earliest deadline. Most operations end long before theirs,
// so it is moved only forward in time when it fires.
void LinkCore::ArmTimer() {
  if (doomed_) return;
  absl::Time next = std::min(
      {open_by_, outgoing_.next_deadline(), incoming_.next_deadline()});
  if (next >= armed_for_) return;
  if (timer_ != 0) loop_->CancelTimer(timer_);
  armed_for_ = next;
  timer_ = loop_->RunAt(next, [self = shared_from_this()] { self->OnTimer(); });
}

void LinkCore::OnTimer() {
  timer_ = 0;
  armed_for_ = absl::InfiniteFuture();
  if (doomed_) return;
  absl::Time now = clock->Now();
  if (open_by_ <= now) {
    open_by_ = absl::InfiniteFuture();
    End(absl::DeadlineExceededError("not all lanes came up in time"),
        /*by_user=*/false);
  }
  outgoing_.OnTime(now);
  incoming_.OnTime(now);
  AfterEvent();
}

void LinkCore::MaybeDrained() {
  if (drained_.empty() || doomed_) return;
  bool ended = phase_ == Phase::kEnding || phase_ == Phase::kGone;
  bool quiet =
      outgoing_.idle() && incoming_.idle() && lanes_.frames_pending() == 0;
  if (!quiet && !ended) return;
  for (DoneStatus& drained : drained_) {
    Tell([drained = std::move(drained),
          status = ended ? why_ : absl::OkStatus()]() mutable {
      std::move(drained)(std::move(status));
    });
  }
  drained_.clear();
}

void LinkCore::MaybeGone() {
  if (phase_ != Phase::kEnding || !lanes_closed_ || work_pending_ != 0 ||
      !outgoing_.idle() || !incoming_.idle()) {
    return;
  }
  phase_ = Phase::kGone;
  if (timer_ != 0) loop_->CancelTimer(timer_);
  // What was posted before this still finds the loop; nothing is after it.
  {
    absl::MutexLock lock(&mu_);
    gone_ = true;
  }
  loop_->Post([self = shared_from_this()] {
    for (DoneStatus& closed : self->closed_) {
      self->Tell([closed = std::move(closed)]() mutable {
        std::move(closed)(absl::OkStatus());
      });
    }
    self->closed_.clear();
    // Giving back much memory takes its time.
    if (self->pool) self->Tell([pool = std::move(self->pool)] {});
    self->on_gone_(self.get(), self->lanes_.TakeContexts());
  });
}

}  // namespace tensorferry
