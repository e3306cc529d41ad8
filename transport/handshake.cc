#include "transport/handshake.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/little_endian.h"

namespace tensorferry {
namespace {

// Hello: magic 4, version 1, wire 1, length of the id 1, zero 1, number 8,
// nonce 32, id. Answer: magic 4, version 1, refusal 1, zero 2, proof 32.
// Numbers are little-endian.
constexpr absl::string_view kMagic = "TFDP";
constexpr uint8_t kVersion = 2;
constexpr size_t kVersionAt = 4, kWireAt = 5, kRefusalAt = 5, kIdLengthAt = 6;
constexpr size_t kNumberAt = 8, kHelloNonceAt = 16, kProofAt = 8;

uint8_t WireByte(Wire wire) { return static_cast<uint8_t>(wire) + 1; }

absl::string_view Text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

std::string HelloOf(const SessionKey& session, Wire wire, uint64_t number,
                    const Nonce& nonce) {
  std::string hello(kHelloNonceAt, '\0');
  auto* head = reinterpret_cast<uint8_t*>(hello.data());
  std::copy(kMagic.begin(), kMagic.end(), head);
  head[kVersionAt] = kVersion;
  head[kWireAt] = WireByte(wire);
  head[kIdLengthAt] = static_cast<uint8_t>(session.session_id.size());
  StoreLittleEndian(number, 8, &head[kNumberAt]);
  return absl::StrCat(hello, Text(nonce.data(), nonce.size()),
                      session.session_id);
}

std::string Answer(Refusal refusal, const Proof& proof) {
  std::string head(kProofAt, '\0');
  std::copy(kMagic.begin(), kMagic.end(), head.begin());
  head[kVersionAt] = static_cast<char>(kVersion);
  head[kRefusalAt] = static_cast<char>(refusal);
  return absl::StrCat(head, Text(proof.data(), proof.size()));
}

// Of one side. The hello names all that the two have agreed on.
Proof ProofOf(absl::string_view role, const std::string& key,
              absl::string_view hello) {
  return Prove(key, absl::StrCat("tensorferry data port, proof of the ", role,
                                 ":", hello));
}

bool Proves(const uint8_t* bytes, const Proof& expected) {
  Proof proof;
  std::copy_n(bytes, proof.size(), proof.begin());
  return SameProof(proof, expected);
}

absl::Status RefusedBecause(uint8_t refusal, uint8_t version) {
  switch (static_cast<Refusal>(refusal)) {
    case Refusal::kVersion:
      return absl::FailedPreconditionError(
          absl::StrCat("the peer's data port speaks version ", version,
                       " of the handshake, this side ", kVersion));
    case Refusal::kSession:
      return absl::UnauthenticatedError(
          "the peer's data port does not expect this session (any more)");
    case Refusal::kWire:
      return absl::FailedPreconditionError(
          "the peer's data port does not allow this session over this wire");
    case Refusal::kConnections:
      return absl::ResourceExhaustedError(
          "the session has as many connections as the peer allows");
    case Refusal::kKey:
      return absl::UnauthenticatedError(
          "this side did not prove to the peer's data port that it knows the "
          "session's key");
    case Refusal::kNumber:
      return absl::UnauthenticatedError(
          "the peer's data port has had a connection of this number before");
    case Refusal::kNone:
      break;
  }
  return absl::UnauthenticatedError(
      absl::StrCat("the peer's data port refuses, for reason ", refusal));
}

}  // namespace

absl::Status Handshake::Receive(absl::Span<const uint8_t> bytes) {
  if (bytes.size() > wanted()) {
    return absl::InternalError("handshake: more bytes than it wanted");
  }
  std::copy(bytes.begin(), bytes.end(), in_.begin() + received_);
  received_ += bytes.size();
  return received_ == wanted_ ? OnReceived() : absl::OkStatus();
}

ClientHandshake::ClientHandshake(const SessionKey& session, Wire wire,
                                 uint64_t number, const Nonce& nonce,
                                 absl::string_view ahead)
    : Handshake(kAnswerBytes) {
  const std::string hello = HelloOf(session, wire, number, nonce);
  const Proof proof = ProofOf("client", session.key, hello);
  expected_ = ProofOf("server", session.key, hello);
  Say(absl::StrCat(hello, Text(proof.data(), proof.size()), ahead));
}

absl::Status ClientHandshake::OnReceived() {
  if (!absl::StartsWith(received(), kMagic)) {
    return absl::DataLossError("what answers is no data port of tensorferry");
  }
  if (in_[kRefusalAt] != 0) {
    return RefusedBecause(in_[kRefusalAt], in_[kVersionAt]);
  }
  if (in_[kVersionAt] != kVersion || in_[kRefusalAt + 1] != 0 ||
      in_[kRefusalAt + 2] != 0) {
    return absl::DataLossError("the data port's answer is malformed");
  }
  if (!Proves(&in_[kProofAt], expected_)) {
    return absl::UnauthenticatedError(
        "the data port did not prove that it knows the session's key");
  }
  WantNoMore();
  return absl::OkStatus();
}

ServerHandshake::ServerHandshake(Wire wire, FindKey find_key,
                                 TakeNumber take_number)
    : Handshake(kHelloHead),
      wire_(wire),
      find_key_(std::move(find_key)),
      take_number_(std::move(take_number)) {}

absl::Status ServerHandshake::OnReceived() {
  switch (step_) {
    case Step::kHelloHead:
      return OnHelloHead();
    case Step::kHelloId:
      return OnHelloId();
    case Step::kProof:
      break;
  }
  return OnProof();
}

absl::Status ServerHandshake::OnHelloHead() {
  if (!absl::StartsWith(received(), kMagic)) {
    return absl::DataLossError("no hello of tensorferry");
  }
  if (in_[kVersionAt] != kVersion) return Refuse(Refusal::kVersion);
  const size_t id_length = in_[kIdLengthAt];
  if (id_length == 0 || id_length > SessionKey::kLongestId ||
      in_[kIdLengthAt + 1] != 0) {
    return absl::DataLossError("a malformed hello");
  }
  if (in_[kWireAt] != WireByte(wire_)) return Refuse(Refusal::kWire);
  step_ = Step::kHelloId;
  WantMore(id_length);
  return absl::OkStatus();
}

// Who asks for a session that is not expected hears it at once.
absl::Status ServerHandshake::OnHelloId() {
  session_.session_id = std::string(received().substr(kHelloHead));
  auto key = find_key_(session_.session_id);
  if (auto* refusal = std::get_if<Refusal>(&key)) return Refuse(*refusal);
  session_.key = std::get<std::string>(std::move(key));
  step_ = Step::kProof;
  WantMore(sizeof(Proof));
  return absl::OkStatus();
}

absl::Status ServerHandshake::OnProof() {
  const size_t hello_bytes = kHelloHead + session_.session_id.size();
  const absl::string_view hello = received().substr(0, hello_bytes);
  const Proof expected = ProofOf("client", session_.key, hello);
  if (!Proves(&in_[hello_bytes], expected)) return Refuse(Refusal::kKey);
  const Refusal refusal =
      take_number_(session_.session_id, LoadLittleEndian(&in_[kNumberAt], 8));
  if (refusal != Refusal::kNone) return Refuse(refusal);
  Say(Answer(Refusal::kNone, ProofOf("server", session_.key, hello)));
  WantNoMore();
  return absl::OkStatus();
}

absl::Status ServerHandshake::Refuse(Refusal refusal) {
  Say(Answer(refusal, Proof{}));
  return absl::UnauthenticatedError(
      absl::StrCat("refused, for reason ", static_cast<int>(refusal)));
}

}  // namespace tensorferry
