import EventLoop
import LDAP
import Sandbox
import SystemPackage

/// An LDAP server with accounts, and their homes and configurations, in one directory.
///
/// The server is the slapd of the sandbox: an mdb database with the shipped indexes, limits and access rules, Content Sync, and a flush to the disk
/// with every commit. All programs use the same server and bind DN.
struct Stage: Sendable {
    let directory: FilePath
    let sandbox: LDAPSandbox
    /// The Manager's connection.
    let manager: LDAPConnection
    let template: AccountTemplate
    /// The number of accounts, from `AccountTemplate.firstUID`.
    let accounts: Int

    var homes: FilePath { directory.appending("homes") }
    var configurations: FilePath { directory.appending("rsnapshot.d") }
    /// The daemon's password without a newline, for the LDAP tools.
    var passwordFile: FilePath { directory.appending("password") }
    private static func server(_ directory: FilePath) -> FilePath { directory.appending("slapd") }

    /// A server without accounts.
    init(in directory: FilePath) async throws {
        try Files.make(directory)
        for name in ["homes", "rsnapshot.d"] { try Files.make(directory.appending(name)) }
        let sandbox = try await LDAPSandbox.start(in: Self.server(directory), options: Self.options)
        try Files.write(sandbox.daemonPassword, to: directory.appending("password"))
        try await self.init(
            directory, sandbox, accounts: 0, template: try AccountTemplate(homes: directory.appending("homes")))
    }

    private init(_ directory: FilePath, _ sandbox: LDAPSandbox, accounts: Int, template: AccountTemplate) async throws {
        self.directory = directory
        self.sandbox = sandbox
        self.accounts = accounts
        self.template = template
        manager = try await Self.connection(sandbox)
    }

    private static var options: SandboxOptions {
        var options = SandboxOptions()
        options.endsWithParent = true
        // After slapadd the server reads all entries before it replies.
        options.startTimeout = .seconds(300)
        return options
    }

    /// A new connection as Manager.
    static func connection(_ sandbox: LDAPSandbox) async throws -> LDAPConnection {
        let credentials = Credentials.simple(
            bindDN: try DN(parsing: sandbox.adminDN), password: Secret(sandbox.adminPassword))
        return try await LDAPConnection.open(
            ServerAddress(parsing: sandbox.uri),
            options: ConnectionOptions(credentials: credentials, operationTimeout: .seconds(120)))
    }

    /// Adds accounts by slapadd while the server is stopped. The last ones have requests.
    @MainActor func growing(
        by count: Int, requesting: Int = 0, _ mode: AccountTemplate.Mode = .modify
    ) async throws -> Stage {
        let first = AccountTemplate.firstUID + accounts
        let end = first + count
        guard end <= AccountTemplate.uids.upperBound else {
            throw BenchFailure("there are not enough uids for so many accounts")
        }
        manager.close()
        try await sandbox.stop(keepingData: true)
        var next = first
        let configuration = Self.server(directory).appending("slapd.conf")
        let entries = ChildProcess.Input.pieces {
            guard next < end else { return nil }
            let chunk = next..<min(end, next + 500)
            next = chunk.upperBound
            var bytes: [UInt8] = []
            for uid in chunk {
                bytes.append(contentsOf: template.text(uid, uid >= end - requesting ? mode : .modified).utf8)
            }
            return bytes
        }
        try await Tool.run("/usr/sbin/slapadd", ["-q", "-w", "-f", configuration.string], input: entries)
        let sandbox = try await LDAPSandbox.start(in: Self.server(directory), options: Self.options)
        return try await Stage(directory, sandbox, accounts: accounts + count, template: template)
    }

    /// Stops the server of a directory, if it runs.
    static func end(in directory: FilePath) async throws {
        guard case .running = try SandboxStatus.of(server(directory)) else { return }
        do {
            try await LDAPSandbox.running(in: server(directory)).stop()
        } catch  where error.code == .notRunning {
            // It has ended with its stage.
        }
    }

    /// The uids of the last accounts.
    func last(_ count: Int) -> Range<Int> {
        let end = AccountTemplate.firstUID + accounts
        return max(AccountTemplate.firstUID, end - count)..<end
    }

    /// The uids of the first accounts.
    func first(_ count: Int) -> Range<Int> {
        AccountTemplate.firstUID..<AccountTemplate.firstUID + min(count, accounts)
    }

    static let accountsDN = SandboxTree.accountsDN

    static func dn(_ uid: Int) throws -> DN { try DN(parsing: accountsDN).appending("uid", "\(uid)") }
}

extension Stage {
    /// Writes a request into accounts concurrently.
    /// - Parameter mode: `modify` or `add`.
    func request(_ mode: AttributeValue, _ uids: Range<Int>) async throws {
        let change: [Modification] = [
            .replace("sstProvisioningMode", mode), .replace("sstProvisioningState", "0"),
            Modification(.replace, "sstProvisioningReturnValue", []),
        ]
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (index, uid) in uids.enumerated() {
                if index >= 64 { try await group.next() }
                group.addTask { _ = try await manager.modify(Self.dn(uid), change) }
            }
            try await group.waitForAll()
        }
    }

    /// Waits until no request or claim is left.
    ///
    /// It reads the last change (contextCSN) five times a second, and searches for requests only if that has not changed, so that it uses few resources.
    /// - Throws: after the limit, with the number of the remaining accounts.
    func settle(within limit: Duration) async throws {
        let deadline = ContinuousClock.now + limit
        var before: String?
        while true {
            let last = try await lastChange()
            if last == before, try await pending() == 0 { return }
            before = last
            guard ContinuousClock.now < deadline else {
                throw BenchFailure("after \(limit) there are \(try await pending()) accounts that are not done")
            }
            try await Task.sleep(for: .milliseconds(200))
        }
    }

    private func lastChange() async throws -> String? {
        try await manager.entry(at: DN(parsing: SandboxTree.suffix), attributes: ["contextCSN"])?.text("contextCSN")
    }

    /// The number of accounts with a request or claim.
    func pending() async throws -> Int {
        var count = 0
        let request = SearchRequest(
            base: try DN(parsing: Self.accountsDN), filter: .equal("sstProvisioningState", "0"), attributes: ["1.1"])
        for try await _ in manager.search(request) { count += 1 }
        return count
    }

    func finishTimes(_ uids: Range<Int>) async throws -> FinishTimes {
        var times: [Double] = []
        let step = 50
        for start in stride(from: uids.lowerBound, to: uids.upperBound, by: step) {
            let some = start..<min(start + step, uids.upperBound)
            let request = SearchRequest(
                base: try DN(parsing: Self.accountsDN),
                filter: .or(some.map { .equal("uid", AttributeValue("\($0)")) }),
                attributes: ["sstProvisioningState", "sstProvisioningReturnValue", "entryCSN"])
            for try await entry in manager.search(request) {
                guard entry.text("sstProvisioningState") != "0", entry.text("sstProvisioningReturnValue") == "0",
                    let csn = entry.text("entryCSN").flatMap(CSN.init)
                else { continue }
                times.append(csn.seconds)
            }
        }
        return FinishTimes(times: times, unfinished: uids.count - times.count)
    }

    // MARK: Homes

    /// Creates the homes and rsnapshot configurations of accounts like those of the daemon. Existing ones are kept.
    func makeHomes(_ uids: some Sequence<Int>, pattern: HomePattern) throws {
        for uid in uids {
            try Task.checkCancellation()
            let home = homes.appending("\(uid)")
            try Files.make(home)
            for (name, mode, isOwn) in HomePattern.directories {
                let directory = home.appending(name)
                try Files.make(directory, mode: mode)
                if isOwn { try Files.own(directory, uid) }
            }
            try Files.write(pattern.configuration(of: uid), to: configurations.appending("\(uid).conf"), mode: 0o640)
        }
    }

    /// Removes homes and configurations.
    func removeHomes(_ uids: Range<Int>) throws {
        for uid in uids {
            try Files.removeIfThere(homes.appending("\(uid)"))
            try Files.removeIfThere(configurations.appending("\(uid).conf"))
        }
    }
}

/// The files of an account, from an account of the daemon.
struct HomePattern: Sendable {
    /// Name, mode, and whether the account owns it.
    static let directories: [(String, UInt32, Bool)] = [
        ("incoming", 0o750, true), (".ssh", 0o700, true), (".snapshots", 0o755, false),
    ]
    private let pieces: [Substring]

    /// - Parameters:
    ///   - configuration: the text of the file.
    ///   - uid: of its account.
    init(configuration: String, of uid: Int) {
        pieces = configuration.split(separator: "\(uid)", omittingEmptySubsequences: false)
    }

    /// The text for another account.
    func configuration(of uid: Int) -> String { pieces.joined(separator: "\(uid)") }
}

/// The end times of jobs by the clock of the server: the entryCSN of an entry is the time of its last write, which is the finish.
struct FinishTimes: Hashable, Sendable {
    /// Seconds since 1970, ascending.
    let times: [Double]
    /// The number of accounts that are not done.
    let unfinished: Int

    init(times: [Double], unfinished: Int) {
        self.times = times.sorted()
        self.unfinished = unfinished
    }

    /// Jobs per second between the first and the last end; nil: too few.
    var rate: Double? {
        guard let first = times.first, let last = times.last, last > first else { return nil }
        return Double(times.count - 1) / (last - first)
    }
}

/// A change sequence number of OpenLDAP, `20260101120000.123456Z#000000#000#000000`: the time of a write.
struct CSN: Hashable, Sendable {
    /// Since 1970, in UTC, to the microsecond.
    let seconds: Double

    /// - Returns: nil: not a change sequence number.
    init?(_ text: String) {
        let time = text.prefix { $0 != "#" }
        guard time.utf8.count == 22, time.last == "Z", time.dropFirst(14).first == "." else { return nil }
        func number(_ from: Int, _ count: Int) -> Int? {
            let digits = time.dropFirst(from).prefix(count)
            return digits.allSatisfy { $0.isASCII && $0.isNumber } ? Int(digits) : nil
        }
        guard let year = number(0, 4), let month = number(4, 2), let day = number(6, 2), let hour = number(8, 2),
            let minute = number(10, 2), let second = number(12, 2), let micro = number(15, 6)
        else { return nil }
        let days = Self.daysSince1970(year, month, day)
        seconds = Double(((days * 24 + hour) * 60 + minute) * 60 + second) + Double(micro) / 1e6
    }

    /// In the Gregorian calendar; the year begins in March, so that the leap day is its last day.
    private static func daysSince1970(_ year: Int, _ month: Int, _ day: Int) -> Int {
        let year = month <= 2 ? year - 1 : year
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return year * 365 + year / 4 - year / 100 + year / 400 + dayOfYear - 719_468
    }
}
