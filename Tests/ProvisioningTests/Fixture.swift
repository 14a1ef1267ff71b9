import DirectoryModel
import JobCore
import Provisioning
import Testing

/// Entries as a directory would give them.
enum Fixture {
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

    /// Days of a zone without summer time, reckoned without the system's zone database.
    static func fixed(hoursEastOfUTC hours: Int64) -> DayCalendar {
        DayCalendar(
            startOfDay: { day in
                WallTime(secondsSince1970: daysSince1970(day.year, day.month, day.day) * 86_400 - hours * 3_600)
            },
            day: { time in
                var number = (time.secondsSince1970 + hours * 3_600) / 86_400
                var year = 1970
                while let next = CalendarDay(year: year + 1, month: 1, day: 1),
                    daysSince1970(next.year, 1, 1) <= number
                { year += 1 }
                number -= daysSince1970(year, 1, 1)
                var month = 1
                while month < 12, daysSince1970(year, month + 1, 1) - daysSince1970(year, 1, 1) <= number { month += 1 }
                number -= daysSince1970(year, month, 1) - daysSince1970(year, 1, 1)
                return CalendarDay(year: year, month: month, day: Int(number) + 1)
            })
    }

    /// Howard Hinnant's day count for the civil calendar.
    private static func daysSince1970(_ year: Int, _ month: Int, _ day: Int) -> Int64 {
        let shifted = month <= 2 ? year - 1 : year
        let era = shifted / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return Int64(era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468)
    }
}
