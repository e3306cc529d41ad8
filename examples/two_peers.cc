// Two peers, one mixed message, one call and one tensor that is lent: open,
// send, receive, call, lend, close. Both live in this process; across processes
// only the address differs.
//
//   tools/bazel run //examples:two_peers
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/ones.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/synchronization/notification.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "transfer/lendable_memory.h"

namespace tensorferry {
namespace {

TensorMessage MixedMessage() {
  at::Tensor dense = at::arange(12, at::kFloat).view({3, 4});
  TensorMessage message{.type = 7, .payload = "any bytes"};
  message.tensors = {dense,
                     dense.t(),  // shares its storage, and will share it again
                     at::eye(3).to_sparse(), at::empty({0, 5}),
                     at::ones({4}).to(at::kFloat8_e4m3fn)};
  message.names = {"dense", "view", "sparse", "empty", "fp8"};
  return message;
}

void Print(const TensorMessage& message) {
  for (size_t i = 0; i < message.tensors.size(); ++i) {
    std::printf("  %-7s %s\n", message.names[i].c_str(),
                message.tensors[i].toString().c_str());
  }
}

// The callee has it where the caller has it: nothing is copied.
absl::Status Lend(Session& session) {
  const auto memory = LendableMemory::Create();
  absl::StatusOr<at::Tensor> lent = memory->Empty({1024, 1024}, at::kFloat);
  if (!lent.ok()) return lent.status();
  lent->fill_(2);
  auto receipt = blocking::Send(
      session, {.type = 9, .tensors = {*lent}, .names = {"lent"}},
      {.lend = memory});
  if (!receipt.ok()) return receipt.status();
  std::printf("lent over %s\n", receipt->paths[0].path.c_str());
  // Until the callee has dropped it, it must not be written to.
  absl::Notification over;
  absl::Status returned;
  memory->WhenReturned(*lent, [&](absl::Status status) {
    returned = std::move(status);
    over.Notify();
  });
  over.WaitForNotification();
  return returned;
}

absl::Status Run() {
  // The callee prints what it gets, and doubles what it is called with.
  auto callee = Peer::Create({.name = "callee"});
  if (!callee.ok()) return callee.status();
  (*callee)->Accept([](std::shared_ptr<Session> session) {
    auto serve = [](Session& session, Received call) {
      TensorMessage reply{.tensors = {call.message.tensors[0] * 2}};
      session.Reply(call.envelope, std::move(reply), {}, nullptr);
    };
    if (!session->Handle(8, serve).ok()) return;
    session->Receive({}, [](absl::StatusOr<Received> received) {
      if (received.ok()) Print(received->message);
    });
    session->Receive({.filter = {.type = 9}, .leases = true},
                     [](absl::StatusOr<Received> received) {
                       if (received.ok()) Print(received->message);
                     });
    session->OnEnd([session](SessionReport) {});  // keeps it until it ends
  });

  auto caller = Peer::Create({.name = "caller", .control = ""});
  if (!caller.ok()) return caller.status();
  auto session = blocking::Connect(**caller, (*callee)->control_address(),
                                   Offer(), absl::Seconds(10));
  if (!session.ok()) return session.status();
  std::printf("%s\n", ToString((*session)->plan()).c_str());

  // OK means delivered: the callee has the bytes and the digests are equal.
  auto receipt = blocking::Send(**session, MixedMessage());
  if (!receipt.ok()) return receipt.status();
  std::printf("sent %d tensors, %d bytes, digest %s\n", receipt->tensors,
              static_cast<int>(receipt->bytes), receipt->digest.c_str());

  auto reply =
      blocking::Call(**session, {.type = 8, .tensors = {at::ones({2})}});
  if (!reply.ok()) return reply.status();
  std::printf("1 doubled is %g\n", reply->message.tensors[0][0].item<float>());
  absl::Status lent = Lend(**session);
  if (!lent.ok()) return lent;
  return blocking::Close(**session, absl::Seconds(5)).status();
}

}  // namespace
}  // namespace tensorferry

int main() {
  const absl::Status status = tensorferry::Run();
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
