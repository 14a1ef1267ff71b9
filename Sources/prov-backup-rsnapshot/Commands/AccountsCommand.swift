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
        @Flag(help: "Only those whose last request failed, or whose mode or state is invalid.") var failed = false
        @OptionGroup var output: OutputOptions

        func validate() throws {
            if pending && failed { throw ValidationError("--pending and --failed exclude each other; leave one out.") }
        }

        func run() async throws {
            let settings = try files.load()
            let accounts = try await AccountStore(settings)
            let scope = accounts.scope
            let filter =
                pending ? scope.pending : failed ? .or([try accounts.failed(), scope.invalid]) : scope.accounts
            let table = TextTable(AccountLine.headings, least: [10, 8, 16, 7, 5, 18])
            if !output.json { print(table.line(AccountLine.headings)) }
            let host = settings.backupJobs.host
            try await accounts.forEachEntry(filter, attributes: [BackupJobs.lastCopyAttribute]) { entry in
                let lastBackup = BackupJobs.lastCopy(in: entry, host: host)
                guard let line = AccountLine(entry, scope.names, lastBackup: lastBackup) else { return }
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
            let settings = try account.files.load()
            let accounts = try await AccountStore(settings)
            let entry = try await accounts.entry(of: account.account, attributes: BackupJobs.inspectedAttributes)
            let uuid = AccountStatus(entry, names: settings.engine.policy.names)?.uuid
            let daemon = try await Result(asking: DaemonControl(settings), of: uuid)
            let last = try await JobLookup(account.files).last([.provisioning, .backup], ofAccount: entry.accountName)
            let explanation = Explanation(
                entry: entry, policy: settings.engine.policy,
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
            let (settings, name) = (try account.files.load(), account.account)
            let found = try await AccountStore(settings).account(name)
            let key = AccountKey(uuid: found.status.uuid, dn: found.status.dn)
            let explain = "see: \(AccountCommand.explain.text(found.entry.accountReference))"
            let asked = try await DaemonControl(settings).provision(key)
            let code = if let asked { asked } else { try await Daemon(files: account.files, log: log).provision(key) }
            guard let code else {
                let retry = AccountCommand.retry.text(found.entry.accountReference)
                print(
                    found.status.phase == .failed
                        ? "\(name): its last request has failed; after the cause is fixed, write it again: \(retry)"
                        : "\(name): nothing to do; \(explain)")
                return
            }
            print("\(name): \(code.name) (\(code.rawValue))\(code == .success ? "" : "; \(explain)")")
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
        @Argument(help: "The names of the accounts, as `accounts list` shows them, or their DNs.")
        var accounts: [String] = []
        @Flag(help: "Every account whose last request failed.") var all = false

        func validate() throws {
            if accounts.isEmpty != all { throw ValidationError("Name one or more accounts, or say --all.") }
        }

        func run() async throws {
            let store = try await AccountStore(try files.load())
            let wanted = all ? try await store.failedAccounts() : accounts
            if wanted.isEmpty { print("no account has failed") }
            var refused = 0
            for name in wanted {
                do {
                    let mode = try await store.retry(name)
                    print("\(name): \(mode)")
                } catch {
                    guard let failure = CommandFailure(error) else { throw error }
                    refused += 1
                    printError("\(name): \(failure)")
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
            let (settings, name) = (try account.files.load(), account.account)
            let claim = try await AccountStore(settings).release(name)
            print("\(name): removed the claim of \(claim)")
        }
    }
}

/// A command about one account, for hints.
enum AccountCommand: String {
    case explain, provision, retry, release

    /// `prov-backup-rsnapshot accounts retry 3724300`. The text `UID` replaces what is neither a uid nor a DN, because an entry may contain any text.
    func text(_ account: String) -> String {
        "prov-backup-rsnapshot accounts \(rawValue) \(word(account))"
    }

    private func word(_ account: String) -> String {
        if Self.isUID(account) { return account }
        // A DN that was cut for a line is none any more.
        guard let dn = try? DN(parsing: account), !dn.isEmpty else { return "UID" }
        return account.shellWord
    }

    /// Characters of user names: never an option, and the same with and without quotes.
    fileprivate static func isUID(_ text: String) -> Bool {
        text.wholeMatch(of: /[A-Za-z0-9][A-Za-z0-9._@-]{0,63}/) != nil
    }
}

extension Entry {
    /// What to call the account in a command: its uid, or the DN if it has not exactly one that can stand there.
    var accountReference: String {
        let uids = self[Self.nameAttribute]
        guard uids.count == 1, let uid = uids.first?.text, AccountCommand.isUID(uid) else { return dn.description }
        return uid
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
    func forEachEntry(
        _ filter: Filter, attributes: [AttributeName] = [], _ body: (Entry) throws -> Void
    ) async throws {
        let request = SearchRequest(
            base: scope.base, scope: .subtree, filter: filter, attributes: requested + attributes)
        for try await entry in connection.search(request) { try body(entry) }
    }

    /// Leaves out entries that take no part in provisioning.
    func forEach(_ filter: Filter, _ body: (AccountStatus, Entry) throws -> Void) async throws {
        try await forEachEntry(filter) { entry in
            if let status = AccountStatus(entry, names: scope.names) { try body(status, entry) }
        }
    }

    private var requested: [AttributeName] { scope.names.requested + [Entry.nameAttribute] }

    /// - Parameter attributes: in addition to those of the protocol and `uid`.
    /// - Parameter account: a uid, a DN, or the name of an entry without a uid.
    /// - Throws: `CommandFailure` unless it is exactly one entry.
    func entry(of account: String, attributes: [AttributeName] = []) async throws -> Entry {
        let found = try await entries(of: account, attributes)
        guard let entry = found.first else {
            throw CommandFailure(
                "there is no account with the uid, the DN or the name \(String(reflecting: account)) below \(scope.base)"
                    + (scope.condition == nil ? "" : " that meets SEARCH_FILTER"),
                hint: "look it up with: prov-backup-rsnapshot accounts list")
        }
        guard found.count == 1 else {
            throw CommandFailure(
                "\(found.count) entries below \(scope.base) have the name \(account): \(found.map(\.dn.description).joined(separator: "; "))",
                hint: "say the DN instead of the name; a uid must belong to one account only")
        }
        return entry
    }

    private func entries(of account: String, _ attributes: [AttributeName]) async throws -> [Entry] {
        if let dn = try? DN(parsing: account), dn == scope.base || dn.isDescendant(of: scope.base) {
            do throws(LDAPError) {
                return try await entries(.present("objectClass"), at: dn, attributes)
            } catch {
                guard error.code == .noSuchObject else { throw error }
                return []
            }
        }
        let found = try await entries(.equal(Entry.nameAttribute, AttributeValue(account)), attributes)
        guard found.isEmpty else { return found }
        // Any attribute may be the relative name of an entry without a uid, so that no filter finds it.
        var named: [Entry] = []
        try await forEachEntry(scope.accounts, attributes: attributes) { entry in
            if entry.accountName == account { named.append(entry) }
        }
        return named
    }

    /// - Parameter dn: nil: searches the whole subtree.
    private func entries(
        _ isMeant: Filter, at dn: DN? = nil, _ attributes: [AttributeName]
    ) async throws(LDAPError) -> [Entry] {
        try await connection.search(
            SearchRequest(
                base: dn ?? scope.base, scope: dn == nil ? .subtree : .base,
                filter: scope.condition.map { .and([isMeant, $0]) } ?? isMeant, attributes: requested + attributes)
        ).all()
    }

    func account(_ name: String) async throws -> Account {
        let entry = try await entry(of: name)
        guard let account = Account(entry, names: scope.names) else {
            let absence = AccountStatus.absence(from: entry, names: scope.names)
            throw CommandFailure("\(entry.dn) takes no part in provisioning: \(absence.reason)", hint: absence.hint)
        }
        return account
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

    /// What to call them in commands.
    func failedAccounts() async throws -> [String] {
        var accounts: [String] = []
        try await forEach(try failed()) { _, entry in accounts.append(entry.accountReference) }
        return accounts
    }

    /// Writes the request again.
    /// - Returns: the mode that was written.
    func retry(_ name: String) async throws -> ProvisioningMode {
        let account = try await account(name)
        let status = account.status
        guard status.phase == .failed || status.phase == .requested else {
            throw CommandFailure(
                "\(status.dn) has not failed: its mode is \(status.mode), its state \(status.state)",
                hint: "see: \(AccountCommand.explain.text(account.entry.accountReference))")
        }
        let write = EntryWrite.retry(status, names: scope.names)
        try await commit(write, to: status.dn)
        return write.mode
    }

    /// Removes the claim of a daemon that no longer exists.
    /// - Returns: the removed claim.
    func release(_ name: String) async throws -> String {
        let account = try await account(name)
        let status = account.status
        guard let claim = status.claim, let write = EntryWrite.release(status, names: scope.names) else {
            throw CommandFailure(
                "\(status.dn) has no claim" + (scope.names.claim == nil ? ", and CLAIM is empty" : ""),
                hint: "see: \(AccountCommand.explain.text(account.entry.accountReference))")
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
            let isUnknown = error.isConnectionLost || error.code == .timeout
            throw CommandFailure(
                error,
                consequence: isUnknown
                    ? "it is unknown whether \(dn) was changed: look at it, then try again" : "nothing was changed")
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

    /// - Returns: nil when the entry takes no part in provisioning, unless that is because its mode is invalid.
    init?(_ entry: Entry, _ names: AttributeNames, lastBackup: Timestamp?) {
        let status = AccountStatus(entry, names: names)
        guard status != nil || AccountStatus.isInvalid(entry, names: names) else { return nil }
        func value(_ name: AttributeName) -> String? {
            entry[name].first.map { OneLine.value($0.description.spaceFolded) }
        }
        uid = OneLine.value(entry.accountName)
        dn = entry.dn.description
        phase = (status?.phase ?? .idle).rawValue
        mode = status?.mode.description ?? value(names.mode) ?? ""
        state = value(names.state) ?? ""
        date = names.dates.lazy.compactMap(value).first
        returnValue = names.returnValue.flatMap(value)
        self.lastBackup = lastBackup
        hosts = entry[names.host].compactMap(\.text).map(OneLine.value)
    }

    static let headings = ["UID", "MODE", "STATE", "DATE", "RETURN", "LAST BACKUP", "HOST"]

    var cells: [String] {
        [
            uid, mode, state, date ?? "-", returnValue ?? "-", lastBackup?.local ?? "-",
            hosts.isEmpty ? "-" : hosts.joined(separator: ","),
        ]
    }
}
