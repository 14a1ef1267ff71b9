import ArgumentParser
import BackupService
import LDAP
import Glibc
import SystemPackage

struct LDIFCreateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Write the four LDIFs of the test flow for an account.",
        discussion: "01 adds the account with the wish add, 02 wishes modify, 03 wishes delete, 04 removes the entry.")

    @Option(help: "The account's uid: seven digits or more.") var uid: String
    @Option(help: "sstBelongsToResellerUID.") var reseller = "4000000"
    @Option(help: "sstBelongsToCustomerUID.") var customer = "4000001"
    @Option(help: "sstBelongsToPersonUID.") var people = "4000002"
    @Option(help: "First name, for cn and gecos.") var givenname = "Givenname"
    @Option(help: "Last name, for cn and gecos.") var surname = "Surname"
    @Option(help: "The entry above the accounts.") var base = "ou=accounts,ou=backup,ou=services,dc=stoney-cloud,dc=org"
    @Option(help: "The directory below which the home is to lie; one of HOME_ROOTS.") var homeRoot = "/var/backup"
    @Option(help: "The backup server that is to hold the account.") var host: String?
    @Option(name: [.customShort("o"), .long], help: "Where to write; made when missing.", completion: .directory)
    var output = "data"

    func run() throws {
        let files: [TestLDIFs.File]
        do {
            files = try TestLDIFs(
                TestLDIFs.Parameters(
                    uid: uid, reseller: reseller, customer: customer, people: people, givenName: givenname,
                    surname: surname, base: try DN(parsing: base), homeRoot: FilePath(homeRoot), host: host)
            ).files
        } catch let error as TestLDIFs.Invalid {
            throw ValidationError("\(error)")
        } catch let error as DNSyntaxError {
            throw ValidationError("--base: \(error)")
        }
        try makeDirectory(output)
        for file in files {
            let path = "\(output)/\(file.name)"
            try TextFiles.write(file.text, to: path)
            print(path)
        }
    }

    private func makeDirectory(_ path: String) throws {
        guard mkdir(path, 0o777) == 0 || errno == EEXIST else {
            throw CommandFailure(
                "\(path) cannot be made: \(Errno(rawValue: errno))", hint: "choose another with --output")
        }
    }
}
