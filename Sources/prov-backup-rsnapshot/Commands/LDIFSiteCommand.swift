import ArgumentParser
import LDAP
import Sandbox

struct LDIFSiteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "site",
        abstract: "Print what a directory server needs besides the schema, with the names of this site.",
        discussion: """
            For a server that keeps its configuration in cn=config, such as Debian's. The head of the LDIF says how to load it. Nothing is \
            changed, and no server is asked.
            """)

    @Option(help: "The entry above all others of the site's database, such as dc=nodomain.") var base: String
    @Option(
        name: .customLong("daemon-dn"),
        help: "As whom the daemon is to bind (default: cn=prov-backup-rsnapshot,ou=programs below the base).")
    var daemonDN: String?

    func run() throws {
        let site: SiteLDIF
        do {
            site = try SiteLDIF(
                base: try dn(base, of: "--base"), daemonDN: try daemonDN.map { try dn($0, of: "--daemon-dn") },
                pieces: SandboxPieces())
        } catch let error as SandboxError {
            throw CommandFailure(
                error.reason, hint: error.hint, status: error.code == .option ? .wrongUsage : .failure)
        }
        print(LDIFWriter.comment(head(site)))
        for record in site.records { StandardOutput.write(LDIFWriter.text(for: record)) }
    }

    private func dn(_ text: String, of option: String) throws -> DN {
        do { return try DN(parsing: text) } catch { throw ValidationError("\(option): \(error)") }
    }

    private func head(_ site: SiteLDIF) -> String {
        """
        What the directory server of this site needs for the backup accounts, besides the schema
        (stoney-cloud.ldif), which is loaded first.

        It fits Debian's own configuration, where \(base) is there already. Take out what your server has;
        where the database of \(base) is not olcDatabase={1}mdb, correct that. As root on the directory server,
        who is known there by the socket:

            ldapmodify -Y EXTERNAL -H ldapi:/// -f site.ldif
            ldappasswd -Y EXTERNAL -H ldapi:/// -S \("\(site.daemonDN)".shellWord)

        Debian lets everybody read everything without a password. From then on the accounts and their service
        are for these alone: \(site.daemonDN),
        cn=selfcare,ou=programs,\(base), the administrator, and root on the directory server.
        The rules come before those that are there, which hold for everything else as before.

        The settings that go with it:

            ADMIN_USER = \(site.daemonDN)
            SERVICE_SUBTREE = \(site.accountsDN)
        """
    }
}
