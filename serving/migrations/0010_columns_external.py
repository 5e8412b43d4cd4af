"""The columns of the prediction log are stored as they are: PostgreSQL's own compression costs four times the insert, and compaction compresses better."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('serving', '0009_validation_counts'),
    ]

    operations = [
        migrations.RunSQL(
            'ALTER TABLE serving_predictionsegment ALTER COLUMN columns SET STORAGE EXTERNAL',
            'ALTER TABLE serving_predictionsegment ALTER COLUMN columns SET STORAGE EXTENDED',
        ),
    ]
