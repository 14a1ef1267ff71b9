import LDAP
import JobCore
import Provisioning
import Testing

/// Entries as an LDAP server returns them.
enum Fixture {
    static let scope = WatchScope(base: .root, names: AttributeNames())

    static func entry(
        uid: String = "3724300", mode: String?, state: String? = "0", date: String? = nil, returnValue: String? = nil,
        active: String? = nil, hosts: [String] = [], claim: String? = nil
    ) throws -> Entry {
        var entry = Entry(dn: try DN(parsing: "uid=\(uid),ou=accounts,ou=backup,ou=services,dc=stoney-cloud,dc=org"))
        let values: [(AttributeName, String?)] = [
            ("sstProvisioningMode", mode), ("sstProvisioningState", state), ("sstProvisioningExecutionDate", date),
            ("sstProvisioningReturnValue", returnValue), ("sstIsActive", active), ("provisioningClaim", claim),
            ("entryUUID", "f3f1c6b2-6a52-4a0f-9f0e-5a0d6d3c1b7a"),
            ("entryCSN", "20261121120000.000000Z#000000#000#000000"),
        ]
        for (name, value) in values where value != nil { entry[name] = value.map { [AttributeValue($0)] } ?? [] }
        entry["host"] = hosts.map { AttributeValue($0) }
        return entry
    }

    static func status(
        mode: String, state: String = "0", date: String? = nil, returnValue: String? = nil, active: String? = nil,
        hosts: [String] = [], claim: String? = nil, names: AttributeNames = AttributeNames()
    ) throws -> AccountStatus {
        let entry = try entry(
            mode: mode, state: state, date: date, returnValue: returnValue, active: active, hosts: hosts, claim: claim)
        return try #require(AccountStatus(entry, names: names))
    }
}

extension DayCalendar {
    static let utc = fixed(hoursEastOfUTC: 0)

    /// A zone without summer time.
    static func fixed(hoursEastOfUTC hours: Int) -> DayCalendar { DayCalendar { _ in hours * 3_600 } }
}
