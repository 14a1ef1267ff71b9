import LDAP
import Testing

@testable import Provisioning

@Suite struct LastKnownDNsTests {
    private let uuid = EntryUUID(text: "00000000-0000-0000-0000-000000000001")

    @Test(
        "where an account was last seen comes back as it was, wherever it is and however it is written",
        arguments: [
            "uid=1,ou=accounts,dc=example", "uid=1,OU=Accounts, dc=example",
            "cn=a\\,b\\\\,ou=deep\\ ,ou=accounts,dc=example",
            "cn=a+uid=1,ou=accounts,dc=example", "ou=accounts,dc=example", "uid=1,ou=elsewhere,dc=example",
            "cn=\\,,dc=else", "cn=#04024869,ou=accounts,dc=example", "uid=\\01\\FF,ou=accounts,dc=example", "",
        ])
    func names(text: String) throws {
        var places = LastKnownDNs(base: try DN(parsing: "ou=accounts,dc=example"))
        let uuid = try #require(uuid)
        places.note(AccountKey(uuid: uuid, dn: try DN(parsing: "uid=former,ou=accounts,dc=example")))
        let key = AccountKey(uuid: uuid, dn: try DN(parsing: text))
        places.note(key)
        #expect(places.key(of: uuid) == key)
        places.forget(uuid)
        #expect(places.key(of: uuid) == nil)
    }
}
