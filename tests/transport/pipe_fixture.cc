#include "tests/transport/pipe_fixture.h"

#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/proof.h"

namespace tensorferry {
namespace {

template <class T>
absl::StatusOr<T> Get(std::future<absl::StatusOr<T>> future, const char* what) {
  if (future.wait_for(absl::ToChronoNanoseconds(kPatience)) !=
      std::future_status::ready) {
    return absl::DeadlineExceededError(absl::StrCat("stuck: ", what));
  }
  return future.get();
}

template <class T>
using Promise = std::shared_ptr<std::promise<absl::StatusOr<T>>>;

template <class T>
Promise<T> NewPromise() {
  return std::make_shared<std::promise<absl::StatusOr<T>>>();
}

tensorpipe::Message ToMessage(Letter& letter) {
  tensorpipe::Message message;
  message.metadata = letter.metadata;
  for (std::string& payload : letter.payloads) {
    message.payloads.push_back(
        {.data = payload.data(), .length = payload.size()});
  }
  for (std::string& tensor : letter.tensors) {
    tensorpipe::Message::Tensor out;
    out.buffer = tensorpipe::CpuBuffer{.ptr = tensor.data()};
    out.length = tensor.size();
    out.targetDevice = tensorpipe::Device(tensorpipe::kCpuDeviceType, 0);
    message.tensors.push_back(std::move(out));
  }
  return message;
}

std::future<absl::StatusOr<bool>> StartSend(tensorpipe::Pipe& pipe,
                                            const Letter& letter) {
  auto done = NewPromise<bool>();
  auto kept = std::make_shared<Letter>(letter);
  pipe.write(ToMessage(*kept), [done, kept](const tensorpipe::Error& error) {
    if (error) {
      done->set_value(HubErrorStatus(error.what()));
    } else {
      done->set_value(true);
    }
  });
  return done->get_future();
}

std::future<absl::StatusOr<Letter>> StartReceive(tensorpipe::Pipe& pipe) {
  auto done = NewPromise<Letter>();
  pipe.readDescriptor([done, &pipe](const tensorpipe::Error& error,
                                    tensorpipe::Descriptor descriptor) {
    if (error) return done->set_value(HubErrorStatus(error.what()));
    auto letter = std::make_shared<Letter>();
    letter->metadata = descriptor.metadata;
    for (auto& payload : descriptor.payloads) {
      letter->payloads.emplace_back(payload.length, 0);
    }
    for (auto& tensor : descriptor.tensors) {
      letter->tensors.emplace_back(tensor.length, 0);
    }
    tensorpipe::Allocation allocation;
    for (auto& payload : letter->payloads) {
      allocation.payloads.push_back({.data = payload.data()});
    }
    for (auto& tensor : letter->tensors) {
      allocation.tensors.push_back(
          {.buffer = tensorpipe::CpuBuffer{.ptr = tensor.data()}});
    }
    pipe.read(std::move(allocation),
              [done, letter](const tensorpipe::Error& error) {
                if (error) {
                  done->set_value(HubErrorStatus(error.what()));
                } else {
                  done->set_value(std::move(*letter));
                }
              });
  });
  return done->get_future();
}

// Its callback may be the last that holds it.
void DropPipesOf(std::weak_ptr<tensorpipe::Listener> listener) {
  const std::shared_ptr<tensorpipe::Listener> open = listener.lock();
  if (open == nullptr) return;
  open->accept([listener](const tensorpipe::Error& error,
                          std::shared_ptr<tensorpipe::Pipe>) {
    if (!error) DropPipesOf(listener);
  });
}

}  // namespace

SessionKey RandomSession() {
  const Nonce random = *RandomNonce();
  SessionKey session;
  session.session_id = "session-";
  for (int i = 0; i < 8; ++i) {
    absl::StrAppend(&session.session_id, absl::Hex(random[i], absl::kZeroPad2));
  }
  session.key.assign(random.begin() + 16, random.end());
  return session;
}

Side::Side(std::shared_ptr<tensorpipe::transport::Context> transport)
    : transport_(std::move(transport)),
      context_(std::make_shared<tensorpipe::Context>()) {
  context_->registerTransport(0, kName, transport_);
  context_->registerChannel(0, "basic", tensorpipe::channel::basic::create());
}

Side::~Side() {
  if (context_ != nullptr) context_->join();
}

absl::Status Send(tensorpipe::Pipe& pipe, const Letter& letter) {
  return Get(StartSend(pipe, letter), "send").status();
}

absl::StatusOr<Letter> Receive(tensorpipe::Pipe& pipe) {
  return Get(StartReceive(pipe), "receive");
}

absl::StatusOr<Letter> Carry(tensorpipe::Pipe& from, tensorpipe::Pipe& to,
                             const Letter& letter) {
  auto received = StartReceive(to);
  auto sent = StartSend(from, letter);
  auto got = Get(std::move(received), "receive");
  auto status = Get(std::move(sent), "send").status();
  if (!status.ok()) return status;
  return got;
}

absl::StatusOr<Session> Session::Open(Hub& accepting, Hub& dialing,
                                      const std::vector<Wire>& wires,
                                      const SessionKey& session) {
  auto expected = accepting.Expect(session, wires, absl::InfiniteFuture(), {});
  if (!expected.ok()) return expected.status();
  Session out;
  out.address_ = expected->addresses.front();
  out.accepting_ = std::make_unique<Side>(expected->context);
  out.listener_ = out.accepting_->context().listen(
      {absl::StrCat(Side::kName, "://", expected->listen)});
  auto context = dialing.Dial(session, out.address_, {});
  if (!context.ok()) return context.status();
  out.dialing_ = std::make_unique<Side>(*context);
  return out;
}

absl::StatusOr<Session::Ends> Session::OpenPipe() {
  auto accepted = NewPromise<std::shared_ptr<tensorpipe::Pipe>>();
  listener_->accept([accepted](const tensorpipe::Error& error,
                               std::shared_ptr<tensorpipe::Pipe> pipe) {
    if (error) return accepted->set_value(HubErrorStatus(error.what()));
    accepted->set_value(std::move(pipe));
  });
  Ends ends;
  ends.dialed =
      dialing_->context().connect(absl::StrCat(Side::kName, "://", address_));
  auto pipe = Get(accepted->get_future(), "accept");
  if (!pipe.ok()) return pipe.status();
  ends.accepted = *std::move(pipe);
  return ends;
}

void Session::DropPipes() { DropPipesOf(listener_); }

absl::Status TryHonestSession(Hub& hub, Wire wire) {
  auto session = Session::Open(hub, hub, {wire});
  if (!session.ok()) return session.status();
  auto ends = session->OpenPipe();
  if (!ends.ok()) return ends.status();
  const Letter letter{.metadata = "honest", .payloads = {"works"}};
  auto got = Carry(*ends->dialed, *ends->accepted, letter);
  if (!got.ok()) return got.status();
  if (!(*got == letter)) return absl::DataLossError("another letter came");
  return absl::OkStatus();
}

}  // namespace tensorferry
