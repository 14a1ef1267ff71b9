import JobCore
import Testing

@Suite struct JobSubjectTests {
    @Test(
        "a subject keeps its text, and equal texts are the same subject",
        arguments: [
            "job nightly", "", "00000000-0000-0000-0000-000000000000", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", "f81d4fae-7dec-11d0-a765-00a0c91e6bf",
            "f81d4fae7-dec-11d0-a765-00a0c91e6bf6",
            "-81d4fae-7dec-11d0-a765-00a0c91e6bf6", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6-",
        ])
    func text(_ text: String) {
        #expect(JobSubject(text).description == text)
        #expect(JobSubject(text) == JobSubject(text))
        #expect(JobSubject(text) != JobSubject("\(text)0"))
    }
}
