import ArgumentParser
import BackupService
import Daemon
import Provisioning

struct SnapshotsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshots", abstract: "Accept that an account holds far less than before.",
        subcommands: [Accept.self])

    struct Accept: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Accept the size of an account's newest copy.",
            discussion: """
                After a copy with less than a tenth of the files or bytes of the last full one, that one is kept until a copy is \
                full again. Where the customer deleted the files on purpose, this command ends the warning, and the next backup \
                removes the kept snapshot. Run it as root on the backup server.
                """)

        @OptionGroup var account: AccountArgument

        func run() async throws {
            let (settings, uid) = (try account.files.load(), account.uid)
            let accounts = try await AccountsDirectory(settings)
            let entry = try await accounts.entry(uid: uid, attributes: BackupJobs.inspectedAttributes)
            guard let found = Account(entry, names: accounts.scope.names) else {
                throw CommandFailure(
                    "\(entry.dn) takes no part in provisioning",
                    hint: "see: \(AccountCommand.explain.text(uid))")
            }
            do {
                guard let size = try BackupJobs.acceptNewestCopy(of: found, settings.backup) else {
                    print("\(uid): nothing to accept: the newest copy has not shrunk")
                    return
                }
                print("\(uid): accepted \(size.files) files with \(size.bytes) bytes")
            } catch let failure as AcceptanceFailure {
                throw CommandFailure(
                    "\(uid): \(failure.reason)", hint: failure.hint, status: failure.isTemporary ? .tryAgain : .failure)
            }
        }
    }
}
