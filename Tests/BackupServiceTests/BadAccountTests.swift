import LDAP
import Provisioning
import SystemPackage
import Testing

@testable import BackupService

/// An invalid account, and the expected code.
struct Spoilt: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let code: ProvisioningExitCode
    let spoil: @Sendable (inout Entry, TestDirectory) throws -> Void

    init(
        _ description: String, _ code: ProvisioningExitCode,
        _ spoil: @escaping @Sendable (inout Entry, TestDirectory) throws -> Void
    ) {
        testDescription = description
        self.code = code
        self.spoil = spoil
    }

    static func value(_ name: AttributeName, _ value: AttributeValue?, _ code: ProvisioningExitCode) -> Self {
        Self("\(name) = \(value.map { "\($0)" } ?? "nothing")", code) { entry, _ in
            entry[name] = value.map { [$0] } ?? []
        }
    }

    static let values: [Spoilt] =
        [
            "../../etc", "-rf", "37\n23707", "3723707\n", "372\t3707", "", "372370", "03723707", "4294967294",
            "18446744073709551616", "3723707 ", "root", "٣٧٢٣٧٠٧",
        ].flatMap {
            [
                value("uid", AttributeValue($0), .undefinedError),
                value("uidNumber", AttributeValue($0), .undefinedError),
            ]
        }
        + [
            value("uid", nil, .undefinedError), value("uidNumber", "4000001", .undefinedError),
            value("uidNumber", nil, .undefinedError), value("gidNumber", "0", .undefinedError),
            value("gidNumber", "999", .undefinedError), value("gidNumber", nil, .undefinedError),
            value("uid", AttributeValue(bytes: [0xff, 0xfe]), .undefinedError),
            Spoilt("two values of uid", .undefinedError) { entry, _ in entry["uid"] = ["3723707", "4000001"] },
            value("homeDirectory", nil, .cannotCheckHomeDirPresence),
            value("homeDirectory", "/etc/3723707", .cannotCheckHomeDirPresence),
            Spoilt("the home is the root", .cannotCheckHomeDirPresence) { entry, directory in
                entry["homeDirectory"] = [AttributeValue(directory.homes.string)]
            },
            Spoilt("the home is another's", .cannotCheckHomeDirPresence) { entry, directory in
                entry["homeDirectory"] = [AttributeValue(directory.homes.appending("4000001").string)]
            },
            Spoilt("the home climbs out", .cannotCheckHomeDirPresence) { entry, directory in
                entry["homeDirectory"] = [AttributeValue(directory.homes.string + "/../../etc/3723707")]
            },
            Spoilt("a newline in the home", .cannotCheckHomeDirPresence) { entry, directory in
                entry["homeDirectory"] = [
                    AttributeValue(directory.homes.string + "/x\nbackup_script\t/bin/sh\t./\n/3723707")
                ]
            },
            Spoilt("a NUL in the home", .cannotCheckHomeDirPresence) { entry, directory in
                entry["homeDirectory"] = [AttributeValue(directory.homes.string + "/x\0/3723707")]
            },
            value("sstQuota", "-1", .cannotSetQuota), value("sstQuota", "99999999999999999999", .cannotSetQuota),
            value("sstQuota", "9223372036854775808", .cannotSetQuota), value("sstQuota", "ten", .cannotSetQuota),
            value("sstQuota", "1G", .cannotSetQuota),
        ]
        + ["100", "-1", "seven", "7\tretain", "007", ""].map {
            value("sstBackupIntervalDaily", AttributeValue($0), .cannotCreateRsnapshotConfiguration)
        }
        + [
            value("sstBackupIntervalWeekly", nil, .cannotCreateRsnapshotConfiguration),
            value("sstBackupIntervalDaily", "1", .cannotCreateRsnapshotConfiguration),
            Spoilt("all intervals 0", .cannotCreateRsnapshotConfiguration) { entry, _ in
                for level in SnapshotLevel.allCases { entry[level.intervalAttribute] = ["0"] }
            },
        ]

    static let onDisk: [Spoilt] =
        ["homes/a", "homes/a/b", "homes/a/b/3723707"].map { place in
            Spoilt("\(place) is a symbolic link", .cannotCheckHomeDirPresence) { entry, directory in
                try directory.makeDirectory("elsewhere/b/3723707")
                let target = directory.path.pushing("elsewhere").pushing(
                    FilePath(String(place.dropFirst("homes/a".count))))
                if place != "homes/a" { try directory.makeDirectory(FilePath(place).removingLastComponent()) }
                try directory.link(FilePath(place), to: target)
                entry["homeDirectory"] = [AttributeValue(directory.homes.string + "/a/b/3723707")]
            }
        } + [
            Spoilt("a file on the way", .cannotCheckHomeDirPresence) { entry, directory in
                try directory.write("", to: "homes/a")
                entry["homeDirectory"] = [AttributeValue(directory.homes.string + "/a/3723707")]
            },
            Spoilt("a file in the home's place", .cannotCheckHomeDirPresence) { _, directory in
                try directory.write("", to: "homes/3723707")
            },
            Spoilt("a directory on the way that others can write", .cannotCheckHomeDirPresence) { entry, directory in
                try directory.makeDirectory("homes/a", mode: 0o777)
                entry["homeDirectory"] = [AttributeValue(directory.homes.string + "/a/3723707")]
            },
        ]

    static let asRoot: [Spoilt] = [
        Spoilt("a home in another's directory on the way", .cannotCheckHomeDirPresence) { entry, directory in
            try directory.makeDirectory("homes/3723707/chroot", owner: 4_000_001)
            entry["homeDirectory"] = [AttributeValue(directory.homes.string + "/3723707/chroot/./home/3723707")]
        },
        Spoilt("a home inside another's upload directory", .cannotCheckHomeDirPresence) { entry, directory in
            try directory.makeDirectory("homes/4000001/incoming", owner: 4_000_001)
            entry["homeDirectory"] = [AttributeValue(directory.homes.string + "/4000001/incoming/3723707")]
        },
    ]
}

@Suite struct BadAccountTests {
    /// Expects the code, and an unchanged disk.
    private func expectRefusal(_ spoilt: Spoilt, _ operation: Operation = .add) async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration()
        var entry = directory.entry()
        try spoilt.spoil(&entry, directory)
        let before = try directory.listing()
        let failure = try await BackupRsnapshotService(configuration: configuration).failure(operation, entry)
        #expect(failure?.code == spoilt.code, "\(failure.map { "\($0)" } ?? "was taken")")
        #expect(failure?.hint.isEmpty == false)
        if spoilt.testDescription.contains("symbolic link") {
            #expect(failure?.reason.contains("is a symbolic link") == true, "\(failure?.reason ?? "")")
        }
        #expect(failure?.reason.unicodeScalars.contains { $0.isControl } == false, "values are escaped in messages")
        #expect(try directory.listing() == before)
    }

    @Test(
        "the unique values of an entry are its uid, also as the group of others, and its group if that could be another account's; of a deletion only the uid"
    )
    func unique() throws {
        let directory = try TestDirectory()
        let service = BackupRsnapshotService(configuration: try directory.configuration())
        var entry = directory.entry()
        let rows: [(group: AttributeValue, uids: [AttributeValue])] = [
            ("3723707", ["3723707"]), ("3723708", ["3723707", "3723708"]), ("1000", ["3723707"]), ("x", ["3723707"]),
        ]
        for (group, uids) in rows {
            entry["gidNumber"] = [group]
            for operation in [Operation.add, .modify] {
                #expect(
                    service.uniqueValues(of: entry, for: operation) == ["uid": uids, "gidNumber": ["3723707"]])
            }
            #expect(service.uniqueValues(of: entry, for: .delete) == ["uid": ["3723707"]])
            #expect(service.exclusionNames(of: entry) == ["3723707"])
        }
    }

    @Test("a dangerous value is refused with its code, and nothing is made", arguments: Spoilt.values)
    func value(_ spoilt: Spoilt) async throws { try await expectRefusal(spoilt) }

    @Test("an untrusted directory above the home is refused, and nothing is made", arguments: Spoilt.onDisk)
    func way(_ spoilt: Spoilt) async throws { try await expectRefusal(spoilt) }

    @Test("an untrusted directory above the home is refused for a deletion", arguments: Spoilt.onDisk)
    func deletion(_ spoilt: Spoilt) async throws { try await expectRefusal(spoilt, .delete) }

    @Test(
        "needs root: what the account could change is no way to a home", .enabled(if: isRoot), arguments: Spoilt.asRoot)
    func owner(_ spoilt: Spoilt) async throws { try await expectRefusal(spoilt) }

    @Test("all problems are reported together, and the first one determines the code")
    func allProblems() async throws {
        let directory = try TestDirectory()
        var entry = directory.entry()
        entry["sstQuota"] = ["-1"]
        entry["sstBackupIntervalDaily"] = ["100"]
        entry["gidNumber"] = ["0"]
        let failure = try await BackupRsnapshotService(configuration: directory.configuration()).failure(.add, entry)
        #expect(failure?.code == .undefinedError)
        for name in ["gidNumber", "sstQuota", "sstBackupIntervalDaily", "uid=3723707,ou=accounts"] {
            #expect(failure?.reason.contains(name) == true)
        }
    }

    @Test("control characters in unused attributes are ignored")
    func unused() async throws {
        let directory = try TestDirectory()
        var entry = directory.entry()
        entry["cn"] = ["Given\nname\u{1b}[31m"]
        #expect(try await BackupRsnapshotService(configuration: directory.configuration()).failure(.add, entry) == nil)
    }

    @Test("a deletion asks for no more than it needs")
    func deletionNeeds() throws {
        var entry = accountEntry(home: "/var/backup/3723707")
        entry["sstQuota"] = ["nonsense"]
        entry["sstBackupIntervalDaily"] = ["nonsense"]
        let account = try BackupAccount(reading: entry, for: .delete, places: HomePlaces(roots: ["/var/backup"]))
        #expect(account.quota == nil)
    }

    @Test("a quota of 0, or none, is no limit", arguments: ["0", nil] as [String?])
    func noLimit(_ quota: String?) throws {
        var entry = accountEntry(home: "/var/backup/3723707")
        entry["sstQuota"] = quota.map { [AttributeValue($0)] } ?? []
        #expect(try BackupAccount(reading: entry, for: .add, places: HomePlaces(roots: ["/var/backup"])).quota == nil)
    }
}
