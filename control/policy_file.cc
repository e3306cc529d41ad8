#include "control/policy_file.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/placement.h"
#include "base/status_macros.h"
#include "control/text.h"
#include "tensorferry/control/policy.pb.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::policy::v1;
using google::protobuf::TextFormat;
using Locations = TextFormat::ParseInfoTree;

// Keeps the first error; lines and columns count from 0.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (text_.empty()) {
      text_ =
          absl::StrCat(line + 1, ":", column + 1, ": ", CleanLines(message));
    }
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// Where one rule stands in the file, for errors.
class RuleReader {
 public:
  RuleReader(const pb::Rule& rule, TextFormat::ParseLocation start,
             Locations* locations)
      : rule_(rule), start_(start), locations_(locations) {}

  absl::StatusOr<PolicyRule> Read() const;

 private:
  // `index` is -1 for a field that is not repeated.
  absl::Status Wrong(absl::string_view field, int index,
                     absl::string_view why) const;
  static absl::Status WrongAt(const TextFormat::ParseLocation& at,
                              absl::string_view field, absl::string_view why);
  absl::Status CheckWho(int index) const;
  absl::Status ReadDevices(Grants& grants) const;
  absl::Status ReadLimits(Grants& grants) const;

  const pb::Rule& rule_;
  const TextFormat::ParseLocation start_;
  Locations* const locations_;
};

absl::Status RuleReader::Wrong(absl::string_view field, int index,
                               absl::string_view why) const {
  const auto* descriptor =
      pb::Rule::descriptor()->FindFieldByName(std::string(field));
  const TextFormat::ParseLocation at =
      locations_->GetLocation(descriptor, index);
  // Of what is written as a list protobuf notes the first only.
  return WrongAt(at.line < 0 ? start_ : at, field, why);
}

absl::Status RuleReader::WrongAt(const TextFormat::ParseLocation& at,
                                 absl::string_view field,
                                 absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat(at.line + 1, ":", at.column + 1, ": ", field, ": ", why));
}

absl::Status RuleReader::CheckWho(int index) const {
  const std::string& who = rule_.who(index);
  if (who == "*" || who == "anonymous") return absl::OkStatus();
  for (absl::string_view kind : {"token:", "cert:", "uid:"}) {
    if (absl::StartsWith(who, kind) && who.size() > kind.size()) {
      return absl::OkStatus();
    }
  }
  return Wrong("who", index,
               absl::StrCat("\"", CleanLines(who),
                            "\" is none of \"token:NAME\", \"cert:NAME\", "
                            "\"uid:NUMBER\", \"anonymous\" and \"*\""));
}

absl::Status RuleReader::ReadDevices(Grants& grants) const {
  for (int i = 0; i < rule_.devices_size(); ++i) {
    if (rule_.devices(i) == "*") {
      grants.all_devices = true;
      continue;
    }
    absl::StatusOr<DeviceId> device = ParseDeviceId(rule_.devices(i));
    if (!device.ok()) {
      return Wrong("devices", i, std::string(device.status().message()));
    }
    grants.devices.push_back(*std::move(device));
  }
  return absl::OkStatus();
}

// Absent fields bound nothing, unlike in an offer, where they are defaults.
absl::Status RuleReader::ReadLimits(Grants& grants) const {
  if (!rule_.has_limits()) return absl::OkStatus();
  Limits limits = Unlimited();
  const auto* reflection = rule_.limits().GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection->ListFields(rule_.limits(), &fields);
  for (const auto* field : fields) {
    const bool wide =
        field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_UINT64;
    const uint64_t value = wide ? reflection->GetUInt64(rule_.limits(), field)
                                : reflection->GetUInt32(rule_.limits(), field);
    const absl::Status set = SetLimit(field->name(), value, limits);
    if (!set.ok()) return Wrong("limits", -1, std::string(set.message()));
  }
  grants.limits = limits;
  return absl::OkStatus();
}

std::vector<BundleGrant> ToGrants(
    const google::protobuf::RepeatedPtrField<pb::Bundles>& bundles) {
  std::vector<BundleGrant> grants;
  for (const pb::Bundles& one : bundles) {
    grants.push_back({one.bundle().empty() ? "*" : one.bundle(),
                      one.names().empty() ? "*" : one.names()});
  }
  return grants;
}

absl::StatusOr<PolicyRule> RuleReader::Read() const {
  PolicyRule result;
  if (rule_.who().empty()) {
    return WrongAt(start_, "who", "a rule without it is for nobody");
  }
  for (int i = 0; i < rule_.who_size(); ++i) {
    FERRY_RETURN_IF_ERROR(CheckWho(i));
  }
  result.who = {rule_.who().begin(), rule_.who().end()};
  Grants& grants = result.grants;
  grants.sessions = static_cast<int>(
      std::min<uint32_t>(rule_.sessions(), std::numeric_limits<int>::max()));
  grants.list = ToGrants(rule_.list());
  grants.pull = ToGrants(rule_.pull());
  grants.push = ToGrants(rule_.push());
  grants.describe = rule_.describe();
  grants.administer = rule_.administer();
  FERRY_RETURN_IF_ERROR(ReadDevices(grants));
  FERRY_RETURN_IF_ERROR(ReadLimits(grants));
  return result;
}

bool Names(const std::string& who, const Identity& identity) {
  if (who == "*") return true;
  if (identity.principals.empty()) return who == "anonymous";
  return std::any_of(identity.principals.begin(), identity.principals.end(),
                     [&](const std::string& principal) {
                       return GlobMatches(who, principal);
                     });
}

}  // namespace

absl::StatusOr<std::vector<PolicyRule>> ParsePolicy(absl::string_view text) {
  FirstError error;
  Locations locations;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  parser.WriteLocationsTo(&locations);
  pb::Policy policy;
  if (!parser.ParseFromString(std::string(text), &policy)) {
    return absl::InvalidArgumentError(error.text());
  }
  const auto* rules_field = pb::Policy::descriptor()->FindFieldByName("rules");
  std::vector<PolicyRule> rules;
  for (int i = 0; i < policy.rules_size(); ++i) {
    RuleReader reader(policy.rules(i), locations.GetLocation(rules_field, i),
                      locations.GetTreeForNested(rules_field, i));
    FERRY_ASSIGN_OR_RETURN(PolicyRule rule, reader.Read());
    rules.push_back(std::move(rule));
  }
  return rules;
}

Grants GrantsFrom(const std::vector<PolicyRule>& rules,
                  const Identity& identity) {
  for (const PolicyRule& rule : rules) {
    for (const std::string& who : rule.who) {
      if (Names(who, identity)) return rule.grants;
    }
  }
  return Grants();
}

absl::StatusOr<std::shared_ptr<PolicyFile>> PolicyFile::Open(
    const std::string& path, OnReload on_reload) {
  FERRY_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                         File::Open(path, ParsePolicy, std::move(on_reload)));
  return std::shared_ptr<PolicyFile>(new PolicyFile(std::move(file)));
}

Grants PolicyFile::GrantsOf(const Identity& identity) const {
  return GrantsFrom(*file_->Get(), identity);
}

}  // namespace tensorferry
