import LDAP
import Sandbox
import SystemPackage

extension Stage {
    /// Writes a wish into accounts, many at once.
    /// - Parameter mode: `modify` or `add`.
    func wish(_ mode: AttributeValue, _ uids: Range<Int>) async throws {
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

    /// Returns when nobody writes any more and no wish or claim is left.
    ///
    /// It asks for one attribute of one entry five times a second, the last change of all, and looks for what is left only where that
    /// stands still: so it takes next to nothing from those who are measured.
    /// - Parameter limit: after that it gives up, and the error says how many are left.
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

    /// How many accounts wish something or are being worked on.
    func pending() async throws -> Int {
        var count = 0
        let request = SearchRequest(
            base: try DN(parsing: Self.accountsDN), filter: .equal("sstProvisioningState", "0"), attributes: ["1.1"])
        for try await _ in manager.search(request) { count += 1 }
        return count
    }

    /// When accounts were done.
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

    // MARK: On the disk

    /// Makes the homes of accounts as the daemon would have left them, and their rsnapshot configurations after the pattern of one that
    /// the daemon has written. What is there already is left.
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

    /// Takes homes and configurations away.
    func removeHomes(_ uids: Range<Int>) throws {
        for uid in uids {
            try Files.removeIfThere(homes.appending("\(uid)"))
            try Files.removeIfThere(configurations.appending("\(uid).conf"))
        }
    }
}

/// What the daemon leaves on the disk for an account, taken from one that it has made.
struct HomePattern: Sendable {
    /// Name, mode, and whether the account owns it.
    static let directories: [(String, UInt32, Bool)] = [
        ("incoming", 0o750, true), (".ssh", 0o700, true), (".snapshots", 0o755, false),
    ]
    private let pieces: [Substring]

    /// - Parameters:
    ///   - configuration: the text of the file.
    ///   - uid: whose it is.
    init(configuration: String, of uid: Int) {
        pieces = configuration.split(separator: "\(uid)", omittingEmptySubsequences: false)
    }

    /// The text of another account's.
    func configuration(of uid: Int) -> String { pieces.joined(separator: "\(uid)") }
}
