import ArgumentParser
import BackupService
import Daemon
import JobCore
import LDAP
import Provisioning

struct AccountsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "accounts",
        abstract: "List accounts, explain one, process a request now, or retry failed requests.",
        subcommands: [List.self, Explain.self, Provision.self, Retry.self, Release.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List this daemon's accounts and their state.")

        @OptionGroup var files: SettingsOptions
        @Flag(help: "Only those with a request that waits or is being processed.") var pending = false
        @Flag(help: "Only those whose last request failed.") var failed = false
        @OptionGroup var output: OutputOptions

        func validate() throws {
            if pending && failed { throw ValidationError("--pending and --failed exclude each other; leave one out.") }
        }

        func run() async throws {
            let settings = try files.load()
            let accounts = try await AccountStore(settings)
            let scope = accounts.scope
            let filter = pending ? scope.pending : failed ? try accounts.failed() : scope.accounts
            let table = TextTable(AccountLine.headings, least: [10, 8, 16, 7, 5, 18])
            if !output.json { print(table.line(AccountLine.headings)) }
            let host = settings.backupJobs.host
            try await accounts.forEach(filter, attributes: [BackupJobs.lastCopyAttribute]) { status, uid, entry in
                let line = AccountLine(
                    uid: uid, status: status, lastBackup: BackupJobs.lastCopy(in: entry, host: host))
                try output.show(line, table.line(line.cells))
            }
        }
    }

    struct Explain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show the state of an account, the reason, and the next command.")

        @OptionGroup var account: AccountArgument
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let (settings, uid) = (try account.files.load(), account.uid)
            let accounts = try await AccountStore(settings)
            let entry = try await accounts.entry(uid: uid, attributes: BackupJobs.inspectedAttributes)
            let daemon = try await Result(asking: DaemonControl(settings))
            let last = try await JobLookup(account.files).last([.provisioning, .backup], ofAccount: uid)
            let explanation = Explanation(
                uid: uid, entry: entry, policy: settings.engine.policy,
                window: settings.policies[.provisioning]?.window, now: SystemWallClock().now, daemon: daemon,
                last: last,
                backup: BackupExplanation(
                    entry, settings, now: SystemWallClock().now, hasDaemon: !daemon.isAbsent,
                    last: last))
            try output.show(explanation, explanation.text)
        }
    }

    struct Provision: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Process an account's request now, regardless of its date.",
            discussion: """
                The running daemon processes it; without one this command does. Exit status: the provisioning exit code \
                (0 to 7).
                """)

        @OptionGroup var account: AccountArgument
        @OptionGroup var log: LogOptions

        func run() async throws {
            let (settings, uid) = (try account.files.load(), account.uid)
            let accounts = try await AccountStore(settings)
            let status = try await accounts.status(uid: uid)
            let key = AccountKey(uuid: status.uuid, dn: status.dn)
            let code =
                switch try await DaemonControl(settings).provision(key) {
                case .daemon(let code): code
                case .noDaemon: try await Daemon(files: account.files, log: log).provision(key)
                }
            guard let code else {
                print("\(uid): nothing to do; see: \(AccountCommand.explain.text(uid))")
                return
            }
            print("\(uid): \(code.name) (\(code.rawValue))")
            if code != .success { throw ExitCode(code.rawValue) }
        }
    }

    struct Retry: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write the request of failed accounts again.",
            discussion: """
                A running daemon processes it at once. A request that waits is written again unchanged: if the LDAP server was restored from a \
                backup, this makes the entry newer than the one that the daemon has seen.
                """)

        @OptionGroup var files: SettingsOptions
        @Argument(help: "The accounts' uids.") var uids: [String] = []
        @Flag(help: "Every account whose last request failed.") var all = false

        func validate() throws {
            if uids.isEmpty != all { throw ValidationError("Name one or more uids, or say --all.") }
        }

        func run() async throws {
            let accounts = try await AccountStore(try files.load())
            let wanted = all ? try await accounts.failedUIDs() : uids
            if wanted.isEmpty { print("no account has failed") }
            var refused = 0
            for uid in wanted {
                do {
                    let mode = try await accounts.retry(uid: uid)
                    print("\(uid): \(mode)")
                } catch {
                    guard let failure = CommandFailure(error) else { throw error }
                    refused += 1
                    printError("\(uid): \(failure)")
                }
            }
            if refused > 0 { throw ExitCode(ProcessExitStatus.failure.rawValue) }
        }
    }

    struct Release: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Release an account from a daemon that no longer exists.",
            discussion: """
                If daemons share accounts (CLAIM), this removes the claim of the lost daemon from the entry, and another daemon continues its work. \
                Make sure that the lost daemon does not run: two daemons would change the same home.
                """)

        @OptionGroup var account: AccountArgument

        func run() async throws {
            let (settings, uid) = (try account.files.load(), account.uid)
            let claim = try await AccountStore(settings).release(uid: uid)
            print("\(uid): removed the claim of \(claim)")
        }
    }
}

/// A command about one account, for hints.
enum AccountCommand: String {
    case explain, provision, retry, release

    /// `prov-backup-rsnapshot accounts retry 3724300`. The text `UID` replaces an invalid uid, because an entry may contain any text.
    func text(_ uid: String) -> String {
        "prov-backup-rsnapshot accounts \(rawValue) \(Self.isUID(uid) ? uid : "UID")"
    }

    /// Characters of user names: never an option, and the same with and without quotes.
    private static func isUID(_ text: String) -> Bool {
        text.wholeMatch(of: /[A-Za-z0-9][A-Za-z0-9._@-]{0,63}/) != nil
    }
}

/// Reads and writes accounts for commands, over one connection and without waiting for an unavailable LDAP server.
struct AccountStore {
    let scope: WatchScope
    private let connection: LDAPConnection

    init(_ configuration: DaemonConfiguration) async throws {
        scope = configuration.engine.scope
        connection = try await configuration.connectOnce()
    }

    /// - Parameter attributes: in addition to those of the protocol and `uid`.
    func forEach(
        _ filter: Filter, attributes: [AttributeName] = [],
        _ body: (AccountStatus, _ uid: String, Entry) throws -> Void
    ) async throws {
        let request = SearchRequest(
            base: scope.base, scope: .subtree, filter: filter, attributes: scope.names.requested + ["uid"] + attributes)
        for try await entry in connection.search(request) {
            guard let status = AccountStatus(entry, names: scope.names) else { continue }
            try body(status, entry.text("uid") ?? "?", entry)
        }
    }

    /// - Parameter attributes: in addition to those of the protocol and `uid`.
    /// - Throws: `CommandFailure` unless exactly one entry has the uid.
    func entry(uid: String, attributes: [AttributeName] = []) async throws -> Entry {
        let isMeant = Filter.equal("uid", AttributeValue(uid))
        let request = SearchRequest(
            base: scope.base, scope: .subtree, filter: scope.condition.map { .and([isMeant, $0]) } ?? isMeant,
            attributes: scope.names.requested + ["uid"] + attributes)
        let found = try await connection.search(request).all()
        guard let entry = found.first else {
            throw CommandFailure(
                "there is no account with uid \(String(reflecting: uid)) below \(scope.base)"
                    + (scope.condition == nil ? "" : " that meets SEARCH_FILTER"),
                hint: "look it up with: prov-backup-rsnapshot accounts list")
        }
        guard found.count == 1 else {
            throw CommandFailure(
                "\(found.count) entries below \(scope.base) have the uid \(uid): \(found.map(\.dn.description).joined(separator: "; "))",
                hint: "a uid must belong to one account only")
        }
        return entry
    }

    func status(uid: String) async throws -> AccountStatus {
        let entry = try await entry(uid: uid)
        guard let status = AccountStatus(entry, names: scope.names) else {
            let absence = AccountStatus.absence(from: entry, names: scope.names)
            throw CommandFailure("\(entry.dn) takes no part in provisioning: \(absence.reason)", hint: absence.hint)
        }
        return status
    }

    /// - Throws: `CommandFailure` if RETURN_VALUE is empty.
    func failed() throws -> Filter {
        guard let filter = scope.failed else {
            throw CommandFailure(
                "failed accounts cannot be found: RETURN_VALUE is empty",
                hint: "set it to an attribute in [Attributes], or see the daemon's log")
        }
        return filter
    }

    func failedUIDs() async throws -> [String] {
        var uids: [String] = []
        try await forEach(try failed()) { _, uid, _ in uids.append(uid) }
        return uids
    }

    /// Writes the request again.
    /// - Returns: the mode that was written.
    func retry(uid: String) async throws -> ProvisioningMode {
        let status = try await status(uid: uid)
        guard TransitionTable.transition(from: status.phase, on: .retry) == .becomes(.requested) else {
            throw CommandFailure(
                "\(status.dn) has not failed: its mode is \(status.mode), its state \(status.state)",
                hint: "see: \(AccountCommand.explain.text(uid))")
        }
        let write = EntryWrite.retry(status, names: scope.names)
        try await commit(write, to: status.dn)
        return write.mode
    }

    /// Removes the claim of a daemon that no longer exists.
    /// - Returns: the removed claim.
    func release(uid: String) async throws -> String {
        let status = try await status(uid: uid)
        guard let claim = status.claim, let write = EntryWrite.release(status, names: scope.names) else {
            throw CommandFailure(
                "\(status.dn) has no claim" + (scope.names.claim == nil ? ", and CLAIM is empty" : ""),
                hint: "see: \(AccountCommand.explain.text(uid))")
        }
        try await commit(write, to: status.dn)
        return claim
    }

    private func commit(_ write: EntryWrite, to dn: DN) async throws {
        do {
            try await connection.modify(dn, write.modifications, asserting: write.assertion)
        } catch {
            if error.code == .noSuchAttribute || error.code == .assertionFailed {
                throw CommandFailure("\(dn) was changed at the same time", hint: "try again")
            }
            guard error.isConnectionLost || error.code == .timeout else { throw CommandFailure(error) }
            throw CommandFailure(
                error.description, hint: "it is unknown whether \(dn) was changed: look at it, then try again",
                status: .unavailable)
        }
    }
}

/// An account in a list.
struct AccountLine: Encodable {
    let uid: String
    let dn: String
    let phase: String
    let mode: String
    let state: String
    let date: String?
    let returnValue: String?
    /// The last copy by this host.
    let lastBackup: Timestamp?
    let hosts: [String]

    init(uid: String, status: AccountStatus, lastBackup: Timestamp?) {
        self.uid = OneLine.value(uid)
        dn = status.dn.description
        phase = status.phase.rawValue
        mode = OneLine.value(status.mode.description)
        state = OneLine.value(status.state)
        date = status.date.map(OneLine.value)
        returnValue = status.returnValue.map(OneLine.value)
        self.lastBackup = lastBackup
        hosts = status.hosts.map(OneLine.value)
    }

    static let headings = ["UID", "MODE", "STATE", "DATE", "RETURN", "LAST BACKUP", "HOST"]

    var cells: [String] {
        [
            uid, mode, state, date ?? "-", returnValue ?? "-", lastBackup?.local ?? "-",
            hosts.isEmpty ? "-" : hosts.joined(separator: ","),
        ]
    }
}
