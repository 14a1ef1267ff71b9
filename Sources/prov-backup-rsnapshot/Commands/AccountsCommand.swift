import ArgumentParser
import BackupService
import Daemon
import LDAP
import JobCore
import Provisioning

struct AccountsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "accounts", abstract: "List accounts, explain one, carry one out now, or try failed ones again.",
        subcommands: [List.self, Explain.self, Provision.self, Retry.self, Release.self])

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List this daemon's accounts and where they stand.")

        @OptionGroup var files: SettingsOptions
        @Flag(help: "Only those with a wish, or being worked on.") var pending = false
        @Flag(help: "Only those whose last attempt failed.") var failed = false
        @OptionGroup var output: OutputOptions

        func validate() throws {
            if pending && failed { throw ValidationError("--pending and --failed exclude each other; leave one out.") }
        }

        func run() async throws {
            let settings = try files.load()
            let accounts = try await AccountsDirectory(settings)
            let scope = accounts.scope
            let filter = pending ? scope.pending : failed ? try accounts.failed() : scope.accounts
            if !output.json { print(AccountLine.heading) }
            let host = settings.backupJobs.host
            try await accounts.forEach(filter, attributes: [BackupJobs.lastCopyAttribute]) { status, uid, entry in
                let line = AccountLine(
                    uid: uid, status: status, lastBackup: BackupJobs.lastCopy(in: entry, host: host))
                try output.show(line, line.text)
            }
        }
    }

    struct Explain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say where an account stands, why, and what to type.")

        @OptionGroup var account: AccountArgument
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let (settings, uid) = (try account.files.load(), account.uid)
            let accounts = try await AccountsDirectory(settings)
            let entry = try await accounts.entry(uid: uid, attributes: BackupJobs.inspectedAttributes)
            let daemon = try await Explanation.Daemon(DaemonControl(settings))
            let jobs = try JobsOfDaemon(account.files)
            let explanation = Explanation(
                uid: uid, entry: entry, policy: settings.engine.policy, now: SystemWallClock().now, daemon: daemon,
                lastJob: await jobs.last(.provisioning, ofAccount: uid),
                backup: BackupExplanation(
                    entry, settings, now: SystemWallClock().now, hasDaemon: !daemon.isAbsent,
                    lastJob: await jobs.last(.backup, ofAccount: uid)))
            try output.show(explanation, explanation.text)
        }
    }

    struct Provision: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Carry an account's wish out now, whatever its day.",
            discussion: """
                A running daemon is asked to do it; without one it is done here. Exit status: the provisioning exit code \
                (0 to 7).
                """)

        @OptionGroup var account: AccountArgument
        @OptionGroup var log: LogOptions

        func run() async throws {
            let (settings, uid) = (try account.files.load(), account.uid)
            let accounts = try await AccountsDirectory(settings)
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
                The daemon, when it runs, takes it up at once. A request that waits is written again as it is: where the LDAP server was restored from a \
                backup, that makes it newer than what the daemon has seen.
                """)

        @OptionGroup var files: SettingsOptions
        @Argument(help: "The accounts' uids.") var uids: [String] = []
        @Flag(help: "Every account whose last attempt failed.") var all = false

        func validate() throws {
            if uids.isEmpty != all { throw ValidationError("Name one or more uids, or say --all.") }
        }

        func run() async throws {
            let accounts = try await AccountsDirectory(try files.load())
            let wanted = all ? try await accounts.failedUIDs() : uids
            if wanted.isEmpty { print("no account has failed") }
            var refused = 0
            for uid in wanted {
                do {
                    let mode = try await accounts.retry(uid: uid)
                    print("\(uid): \(mode)")
                } catch let problem as CommandFailure {
                    refused += 1
                    printError("\(uid): \(problem)")
                }
            }
            if refused > 0 { throw ExitCode(ProcessExitStatus.failure.rawValue) }
        }
    }

    struct Release: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take an account over from a daemon that is gone for good.",
            discussion: """
                Where daemons share accounts (CLAIM), the claim of the one that is gone is removed from the entry, and another goes on with its work. \
                Be sure that it is gone: two daemons would work on one home.
                """)

        @OptionGroup var account: AccountArgument

        func run() async throws {
            let (settings, uid) = (try account.files.load(), account.uid)
            let claim = try await AccountsDirectory(settings).release(uid: uid)
            print("\(uid): the claim of \(claim) is removed")
        }
    }
}
